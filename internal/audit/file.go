package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// output is where lines go.
type output interface {
	// write writes whole lines and says how many bytes of them, whole lines too, it is done with; fewer than all come with an
	// error, and the others are to be brought again.
	write(lines []byte) (done int, err error)
	close()
	String() string // for messages
}

// writing is an output's end as far as it is known.
type writing struct {
	half bool // a line there has no end, as its writing broke off
}

// put writes lines to w. It ends a half line first. n are the bytes written in all, done those of whole lines.
func (p *writing) put(w io.Writer, lines []byte) (n, done int, err error) {
	if p.half {
		if n, err = w.Write([]byte{'\n'}); err != nil {
			return n, 0, err
		}
		p.half = false
	}
	m, err := w.Write(lines)
	done = bytes.LastIndexByte(lines[:m], '\n') + 1
	p.half = done < m
	return n + m, done, err
}

// stream is standard output.
type stream struct {
	w io.Writer
	writing
}

func (s *stream) write(lines []byte) (int, error) {
	_, done, err := s.put(s.w, lines)
	return done, err
}

func (s *stream) close() {}

func (s *stream) String() string { return "standard output" }

// file is a file that is renamed when it is full:
//
//	remove(path.KEEP), rename(path.KEEP-1, path.KEEP), …, rename(path.1, path.2), rename(path, path.1), open(path, O_CREAT|O_APPEND, 0600)
type file struct {
	path string
	max  int64 // bytes; 0: without end
	keep int
	f    *os.File // nil: to be opened
	size int64
	writing
}

// openFile opens the file, so that what cannot work is known at the start.
func openFile(cfg Config) (*file, error) {
	o := &file{path: cfg.File, max: cfg.MaxSize, keep: cfg.Keep}
	return o, o.open()
}

func (o *file) open() error {
	if info, err := os.Stat(o.path); err == nil && !info.Mode().IsRegular() { // a pipe would block, a device keeps nothing
		return fmt.Errorf("%s is no regular file", o.path)
	}
	f, err := os.OpenFile(o.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	o.half = false
	if err == nil && info.Size() > 0 {
		var last [1]byte
		_, err = f.ReadAt(last[:], info.Size()-1)
		o.half = last[0] != '\n'
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	o.f, o.size = f, info.Size()
	return nil
}

func (o *file) write(lines []byte) (done int, err error) {
	if err := o.follow(); err != nil {
		return 0, err
	}
	for done < len(lines) {
		fit := o.fit(lines[done:])
		if fit == 0 {
			if err := o.rotate(); err != nil {
				return done, err
			}
			continue
		}
		n, whole, err := o.put(o.f, lines[done:done+fit])
		o.size += int64(n)
		done += whole
		if err != nil {
			o.close() // opened anew, it may be well
			return done, err
		}
	}
	return done, nil
}

// follow opens the file anew where it is no longer the one at path.
func (o *file) follow() error {
	if o.f != nil {
		open, err := o.f.Stat()
		if err != nil {
			return err
		}
		there, err := os.Stat(o.path)
		if err == nil && os.SameFile(open, there) {
			o.size = there.Size()
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // what is there cannot be seen, and what is open can be written
			return nil
		}
		o.close()
	}
	return o.open()
}

// fit is how many bytes of lines, whole ones, the file has room for. An empty file has room for one.
func (o *file) fit(lines []byte) int {
	room := o.max - o.size
	if o.half {
		room--
	}
	switch {
	case o.max == 0 || int64(len(lines)) <= room:
		return len(lines)
	case o.size == 0 && bytes.IndexByte(lines, '\n') >= int(room):
		return bytes.IndexByte(lines, '\n') + 1
	}
	return bytes.LastIndexByte(lines[:max(room, 0)], '\n') + 1
}

// rotate renames the files and begins a new one.
func (o *file) rotate() error {
	o.close()
	if o.keep == 0 {
		if err := os.Remove(o.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return o.open()
	}
	for n := o.keep; n > 0; n-- {
		if err := os.Rename(o.numbered(n-1), o.numbered(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return o.open()
}

// numbered is the path of the file that was renamed n times.
func (o *file) numbered(n int) string {
	if n == 0 {
		return o.path
	}
	return fmt.Sprintf("%s.%d", o.path, n)
}

func (o *file) close() {
	if o.f != nil {
		_ = o.f.Close()
		o.f = nil
	}
}

func (o *file) String() string { return o.path }
