package main

import (
	"fmt"

	"m3gateway/internal/auth"
)

type tokenCmd struct {
	User string `arg:"" help:"Name of the user."`
}

// Help is shown by gateway token --help.
func (*tokenCmd) Help() string {
	return `The token is random and shown once, on standard error; only its SHA-256 is kept. Standard output gets the line of the tokens file and nothing else:

  gateway token alice >> tokens`
}

func (c *tokenCmd) Run(std streams) error {
	secret, line, err := auth.NewToken(c.User)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.err, "The token of %s, which is shown only now:\n%s\n", c.User, secret)
	_, err = fmt.Fprintln(std.out, line)
	return err
}
