// Package audit writes down who read what and who was refused, as lines of JSON in a file or on standard output, and no request ever waits for it.
package audit

import "fmt"

// Config is the `audit:` section. With neither File nor Stdout nothing is written.
type Config struct {
	// File gets the lines. It is made with mode 0600 if it is not there, and made anew if it is moved away.
	File string `yaml:"file" path:"output"`
	// Stdout has the lines on standard output, in place of File. Default false.
	Stdout bool `yaml:"stdout"`
	// MaxSize is how large File becomes before it is renamed to File.1, File.1 to File.2, and so on; 0: it grows without end.
	// Default 100MiB.
	MaxSize int64 `yaml:"max_size" unit:"bytes"`
	// Keep is how many renamed files there are at most. Default 5.
	Keep int `yaml:"keep"`
}

// Defaults is the section as if it were empty.
func Defaults() Config { return Config{MaxSize: 100 << 20, Keep: 5} }

// Check calls bad for every field that cannot work, with the remedy.
func (c *Config) Check(bad func(field, problem string)) {
	const least = 64 << 10 // room for the longest line, twice
	if c.File != "" && c.Stdout {
		bad("stdout", "is in place of audit.file; remove one of them")
	}
	if c.MaxSize != 0 && c.MaxSize < least {
		bad("max_size", fmt.Sprintf("%d bytes are too few for a file; use 64KiB or more, or 0 for no limit", c.MaxSize))
	}
	if c.Keep < 0 || c.Keep > 1000 {
		bad("keep", "must be 0 to 1000; leave it out for 5")
	}
}
