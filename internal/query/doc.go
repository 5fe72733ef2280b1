// Package query takes a query and gives back the same query confined to the caller's tenants: PromQL, match[], remote-read messages and label-API answers.
//
// A confined query is printed, never patched: one function writes selectors, and it always writes the tenant matcher.
// The printed text is then parsed again and every selector in it is checked by the parser's own walk. What the
// printer does not know is an error, so a new kind of syntax is refused until somebody has read it.
package query
