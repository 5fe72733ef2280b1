package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"m3gateway/internal/auth"
)

type passwdCmd struct {
	User string `arg:"" help:"Name of the user."`
	Cost int    `default:"${cost}" help:"bcrypt cost: log2 of the rounds (default ${cost})."`
}

// Help is shown by gateway passwd --help.
func (*passwdCmd) Help() string {
	return `The password is asked for twice on a terminal, without echo; otherwise it is the first line of standard input. Standard output gets the line USER:HASH and nothing else:

  gateway passwd alice >> users.htpasswd`
}

func (c *passwdCmd) Run(ctx context.Context, std streams) error {
	if strings.Contains(c.User, ":") || strings.HasPrefix(c.User, "#") {
		return fmt.Errorf("an htpasswd file cannot hold the user name %q; choose one without : and without # at the start", c.User)
	}
	password, err := readPassword(ctx, std, c.User)
	if err != nil {
		return err
	}
	hash, err := auth.HashPassword(password, c.Cost)
	if err != nil {
		return err
	}
	line := c.User + ":" + hash + "\n"
	// The room that will read the line knows what a user may be called.
	switch users, err := auth.ParseHtpasswd("the new htpasswd", []byte(line)); {
	case err != nil:
		return err
	case !slices.Equal(users.Names(), []string{c.User}):
		return fmt.Errorf("an htpasswd file cannot hold the user name %q; choose one without spaces at the ends", c.User)
	}
	_, err = io.WriteString(std.out, line)
	return err
}

// readPassword asks on the terminal, or takes the first line of a standard input that is none.
func readPassword(ctx context.Context, std streams, user string) (string, error) {
	if f, ok := std.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		password, err := ask(ctx, f, std.err, "Password for "+user+": ")
		if err != nil {
			return "", err
		}
		again, err := ask(ctx, f, std.err, "Again: ")
		if err != nil {
			return "", err
		}
		if password != again {
			return "", errors.New("the passwords differ; nothing was written: try again")
		}
		return password, nil
	}
	const maxLine = 4096
	line, err := bufio.NewReader(io.LimitReader(std.in, maxLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading the password from standard input: %w", err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
}

// ask reads one line without echo. Echo is on again when it returns, also when ctx ends first.
func ask(ctx context.Context, tty *os.File, out io.Writer, prompt string) (string, error) {
	fd := int(tty.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("reading the terminal's state: %w", err)
	}
	fmt.Fprint(out, prompt)
	defer fmt.Fprintln(out)
	type answer struct {
		password []byte
		err      error
	}
	answered := make(chan answer, 1)
	go func() {
		password, err := term.ReadPassword(fd)
		answered <- answer{password, err}
	}()
	select {
	case a := <-answered:
		if a.err != nil {
			return "", fmt.Errorf("reading the password: %w", a.err)
		}
		return string(a.password), nil
	case <-ctx.Done():
		return "", errors.Join(ctx.Err(), term.Restore(fd, state))
	}
}
