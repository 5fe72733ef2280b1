package main

import (
	"fmt"
	"strings"
)

// problems is everything found wrong with a configuration. Its text has each problem on its own line and the count, with
// the configuration's name, on the last.
type problems struct {
	config string
	list   []error
}

// found is err as a *problems: an error that joins several is several problems.
func found(config string, err error) error {
	return &problems{config, split(err)}
}

func split(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var list []error
	for _, e := range joined.Unwrap() {
		list = append(list, split(e)...)
	}
	return list
}

func (p *problems) Error() string {
	var b strings.Builder
	for _, e := range p.list {
		b.WriteString(e.Error() + "\n")
	}
	s := "s"
	if len(p.list) == 1 {
		s = ""
	}
	fmt.Fprintf(&b, "%s: %d problem%s", p.config, len(p.list), s)
	return b.String()
}
