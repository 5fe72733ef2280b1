// Package smoke proves a front door from outside: it writes known series, reads them back every way there is, and is refused where it must be.
//
// It shares no code with the rooms that it judges: what it sends is encoded by Prometheus' own prompb. What it wrote stays in the
// store, as three series of m3gateway_smoke for each run, until their retention ends.
package smoke
