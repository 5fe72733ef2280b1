package query

import (
	"cmp"
	"io"
)

// Label is a label of a series: its name and its value.
type Label struct{ Name, Value string }

// Shape says where an answer of the Prometheus API holds labels.
type Shape int

const (
	Vectors   Shape = iota // query, query_range: data.result[].metric
	Sets                   // series: data[]
	Names                  // labels and label values: data[], which are strings
	Exemplars              // query_exemplars: data[].seriesLabels
)

// Edit says what is to be changed in an answer. The zero value changes nothing.
type Edit struct {
	Shape Shape
	// Strip is left out of every label set, where it stands with this value. Shape Names: its Name is left out.
	Strip Label
	// Limit is the most series of an answer of shape Vectors; those beyond are left out, and a warning says so. 0: all.
	Limit int
}

// Editor changes answers as they stream, in constant memory. It keeps its buffers for the next one; it is for one goroutine
// at a time.
type Editor struct {
	json jsonReader
	edit Edit
	dst  io.Writer
	out  []byte // not yet written
	name []byte // of the label in hand
	text []byte // its value

	kept   int
	cut    bool // something was left out for Limit
	warned bool
}

// truncated is the warning of an answer that Limit has cut, in Prometheus' words.
const truncated = `"results truncated due to limit"`

// Edit writes the answer that src holds, a JSON object, to dst, changed as e says; space between its parts vanishes.
// Failures of src and dst are returned as they are. After an error, what dst has is not whole.
func (a *Editor) Edit(dst io.Writer, src io.Reader, e Edit) error {
	a.json.reset(src)
	a.edit, a.dst, a.out, a.kept, a.cut, a.warned = e, dst, a.out[:0], 0, false, false
	defer func() { a.dst, a.json.src = nil, nil }()
	if b, err := a.json.peek(); err != nil || b != '{' {
		return cmp.Or(err, errNotJSON)
	}
	err := a.object(func() error {
		switch {
		case a.json.named("data"):
			return a.data()
		case a.json.named("warnings") && a.cut && !a.warned:
			return a.warnings()
		}
		return a.copy()
	}, func(first bool) {
		if a.cut && !a.warned {
			if !first {
				a.out = append(a.out, ',')
			}
			a.out = append(a.out, `"warnings":[`+truncated+`]`...)
		}
	})
	if err == nil {
		err = a.json.end()
	}
	if err != nil {
		return err
	}
	return a.flush(0)
}

// flush writes out what is pending if it is at least least bytes.
func (a *Editor) flush(least int) error {
	if len(a.out) < max(least, 1) {
		return nil
	}
	_, err := a.dst.Write(a.out)
	a.out = a.out[:0]
	return err
}

// write appends to what is pending.
func (a *Editor) write(b []byte) error {
	a.out = append(a.out, b...)
	return a.flush(jsonBuffer)
}

// copy copies the value in hand.
func (a *Editor) copy() error { return a.json.value(a.write) }

// object copies an object; each copies the value of a member, whose name has been copied. last may add members.
func (a *Editor) object(each func() error, last func(first bool)) error {
	if b, err := a.json.peek(); err != nil || b != '{' {
		return a.other(err)
	}
	a.out = append(a.out, '{')
	first := true
	err := a.json.object(func() error {
		if !first {
			a.out = append(a.out, ',')
		}
		first = false
		a.out = append(append(a.out, a.json.key...), ':')
		return each()
	})
	if last != nil {
		last(first)
	}
	a.out = append(a.out, '}')
	return err
}

// other copies a value that is not of the kind that was looked for, such as a null.
func (a *Editor) other(err error) error {
	if err != nil {
		return err
	}
	return a.copy()
}

// array copies an array but for the elements that each does not write; each is given what separates it from those before.
func (a *Editor) array(each func(comma string) (wrote bool, err error)) error {
	if b, err := a.json.peek(); err != nil || b != '[' {
		return a.other(err)
	}
	a.out = append(a.out, '[')
	comma := ""
	err := a.json.array(func() error {
		wrote, err := each(comma)
		if wrote {
			comma = ","
		}
		return err
	})
	a.out = append(a.out, ']')
	return err
}

// data copies the data of an answer.
func (a *Editor) data() error {
	switch a.edit.Shape {
	case Sets:
		return a.array(func(comma string) (bool, error) {
			a.out = append(a.out, comma...)
			return true, a.labels()
		})
	case Names:
		return a.array(a.string)
	case Exemplars:
		return a.array(func(comma string) (bool, error) {
			a.out = append(a.out, comma...)
			return true, a.labelsOf("seriesLabels")
		})
	}
	return a.object(func() error {
		if a.json.named("result") {
			return a.array(a.series)
		}
		return a.copy()
	}, nil)
}

// series copies an element of a result if it is within the limit.
func (a *Editor) series(comma string) (bool, error) {
	b, err := a.json.peek()
	if err != nil {
		return false, err
	}
	if b == '{' { // else a part of a scalar or string
		if a.edit.Limit > 0 && a.kept >= a.edit.Limit {
			a.cut = true
			return false, a.json.value(nil)
		}
		a.kept++
	}
	a.out = append(a.out, comma...)
	return true, a.labelsOf("metric")
}

// labelsOf copies an object whose member of that name is a label set.
func (a *Editor) labelsOf(member string) error {
	return a.object(func() error {
		if a.json.named(member) {
			return a.labels()
		}
		return a.copy()
	}, nil)
}

// labels copies a label set without Strip.
func (a *Editor) labels() error {
	if b, err := a.json.peek(); err != nil || b != '{' || a.edit.Strip.Name == "" {
		return a.other(err)
	}
	a.out = append(a.out, '{')
	first := true
	err := a.json.object(func() error {
		a.name = append(a.name[:0], a.json.key...)
		var err error
		if a.text, err = a.json.str(a.text[:0]); err != nil {
			return err
		}
		if isString(a.name, a.edit.Strip.Name) && isString(a.text, a.edit.Strip.Value) {
			return nil
		}
		if !first {
			a.out = append(a.out, ',')
		}
		first = false
		a.out = append(append(append(a.out, a.name...), ':'), a.text...)
		return a.flush(jsonBuffer)
	})
	a.out = append(a.out, '}')
	return err
}

// string copies a string but the name of Strip.
func (a *Editor) string(comma string) (bool, error) {
	var err error
	if a.text, err = a.json.str(a.text[:0]); err != nil {
		return false, err
	}
	if a.edit.Strip.Name != "" && isString(a.text, a.edit.Strip.Name) {
		return false, nil
	}
	a.out = append(a.out, comma...)
	return true, a.write(a.text)
}

// warnings copies the list of warnings with one more.
func (a *Editor) warnings() error {
	a.warned = true
	a.out = append(a.out, '[')
	a.out = append(a.out, truncated...)
	err := a.json.array(func() error {
		a.out = append(a.out, ',')
		return a.copy()
	})
	a.out = append(a.out, ']')
	return err
}
