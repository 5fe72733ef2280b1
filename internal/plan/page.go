package plan

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"html"
	"io"
	"strings"
)

//go:embed page/page.html
var pageHTML string

//go:embed page/page.css
var pageCSS string

//go:embed page/plan.js
var planJS string

//go:embed page/page.js
var pageJS string

// WritePage writes the plan of in as one HTML file that needs nothing else: charts, tables, and sliders that its own arithmetic
// follows. Without scripts it shows the table of WriteTable.
func WritePage(w io.Writer, in Input) error {
	data, err := json.Marshal(struct {
		Input       Input                  `json:"input"`
		Assumptions []Assumption           `json:"assumptions"`
		Texts       map[string]FindingText `json:"texts"`
	}{in, in.Assume.Table(), Texts()})
	if err != nil {
		return err
	}
	var table bytes.Buffer
	if err := Compute(in).WriteTable(&table); err != nil {
		return err
	}
	// The data is safe within a script element: json.Marshal writes <, > and & as escapes.
	_, err = strings.NewReplacer("/*page.css*/", pageCSS, "{{table}}", html.EscapeString(table.String()), "{{data}}", string(data),
		"/*plan.js*/", planJS, "/*page.js*/", pageJS).WriteString(w, pageHTML)
	return err
}
