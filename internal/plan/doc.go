// Package plan is the capacity arithmetic: series, retention and nodes in; disk, files and memory out, with every assumption stated.
//
// A plan is pure: it reads no clock, no network and no file. The same arithmetic is in page/plan.js, for the page whose numbers
// follow its sliders; the tests hold the two together. Durations are seconds and sizes are bytes, both float64, as JavaScript has
// nothing else; counts are whole numbers below 2^53.
//
// The rules are those of M3's own documentation (block size, about 720 points in a block, the seven files of a fileset, half of
// the memory left free) and of the published M3 scaling guide by Aiven, whose worked examples are tests.
package plan
