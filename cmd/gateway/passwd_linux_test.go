package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/term"
)

// openTerminal returns both sides of a pseudo-terminal: what a person types into and sees, and what the program has.
func openTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	var n, unlock uint32
	for request, arg := range map[uintptr]*uint32{syscall.TIOCGPTN: &n, syscall.TIOCSPTLCK: &unlock} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, person.Fd(), request, uintptr(unsafe.Pointer(arg))); errno != 0 {
			t.Fatal(errno)
		}
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// A person is asked twice, sees nothing of the password, and gets the line on standard output alone.
func TestPasswdTerminal(t *testing.T) {
	for name, c := range map[string]struct {
		typed []string
		code  int
	}{
		"same":   {[]string{"correct horse", "correct horse"}, 0},
		"differ": {[]string{"correct horse", "correct hose"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			person, program := openTerminal(t)
			prompts, stderr := io.Pipe()
			var out bytes.Buffer
			done := make(chan int)
			go func() {
				code := run(t.Context(), []string{"passwd", "alice", "--cost", "4"}, program, &out, stderr)
				stderr.Close()
				done <- code
			}()
			reader := bufio.NewReader(prompts)
			for i, prompt := range []string{"Password for alice: ", "Again: "} {
				got := make([]byte, len(prompt))
				if _, err := io.ReadFull(reader, got); err != nil || string(got) != prompt {
					t.Fatalf("prompt %q, error %v; want %q", got, err, prompt)
				}
				for echoes(t, program) { // typing starts when echo is off
				}
				if _, err := person.WriteString(c.typed[i] + "\n"); err != nil {
					t.Fatal(err)
				}
				if _, err := reader.ReadByte(); err != nil {
					t.Fatal(err)
				}
			}
			rest, err := io.ReadAll(reader)
			if err != nil {
				t.Fatal(err)
			}
			if code := <-done; code != c.code {
				t.Fatalf("exit status %d, stderr %q; want %d", code, rest, c.code)
			}
			if !echoes(t, program) {
				t.Error("echo stayed off")
			}
			if c.code != 0 {
				if !strings.Contains(string(rest), "the passwords differ") || out.Len() > 0 {
					t.Errorf("stdout %q, stderr %q", &out, rest)
				}
				return
			}
			hash := strings.TrimSuffix(strings.TrimPrefix(out.String(), "alice:"), "\n")
			if err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(c.typed[0])); err != nil {
				t.Errorf("printed %q: %v", &out, err)
			}
			// End what the terminal showed with a mark, to read up to it without waiting.
			if _, err := program.WriteString("|"); err != nil {
				t.Fatal(err)
			}
			shown, err := bufio.NewReader(person).ReadString('|')
			if err != nil || strings.Contains(shown, "horse") {
				t.Errorf("the terminal showed %q, error %v", shown, err)
			}
		})
	}
}

// Interrupted, the command leaves the terminal as it was.
func TestPasswdInterrupted(t *testing.T) {
	_, program := openTerminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs bytes.Buffer
	done := make(chan int)
	go func() { done <- run(ctx, []string{"passwd", "alice"}, program, &out, &errs) }()
	for echoes(t, program) {
	}
	cancel()
	if code := <-done; code != 1 || out.Len() > 0 {
		t.Errorf("exit status %d, stdout %q", code, &out)
	}
	if !echoes(t, program) {
		t.Error("echo stayed off")
	}
}

func echoes(t *testing.T, tty *os.File) bool {
	t.Helper()
	if !term.IsTerminal(int(tty.Fd())) {
		t.Fatal("not a terminal")
	}
	var state syscall.Termios
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, tty.Fd(), syscall.TCGETS, uintptr(unsafe.Pointer(&state))); errno != 0 {
		t.Fatal(errno)
	}
	return state.Lflag&syscall.ECHO != 0
}
