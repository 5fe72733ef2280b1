package certs

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
)

// TestAuthorityDown: while the authority cannot be reached, the files are served and the failure is counted and logged.
func TestAuthorityDown(t *testing.T) {
	l, err := occupy(t.Context()) // hangs up on every caller
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ca := newTestCA(t)
	cfg := Defaults()
	cfg.ACME.Domains = []string{"GW.example"}
	cfg.ACME.DirectoryURL = "https://" + l.Addr().String() + "/dir"
	cfg.ACME.StorageDir = filepath.Join(t.TempDir(), "acme")
	log := &lockedBuffer{}
	m, err := New(cfg, slog.New(slog.NewTextHandler(log, nil)), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	m.Use(mustLoad(t, ca.pair("file", time.Hour, "file.example")))
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("second Start: %v", err)
	}
	addr := startServer(t, m, http.NotFoundHandler())
	for _, name := range []string{"", "gw.example", "file.example"} {
		if cert, err := handshake(t, addr, &tls.Config{ServerName: name}); err != nil || cert.DNSNames[0] != "file.example" {
			t.Errorf("%q: %v", name, err)
		}
	}
	for deadline := time.Now().Add(time.Minute); testutil.ToFloat64(m.metrics.failures.WithLabelValues("gw.example")) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the failure is not counted: %s", log)
		}
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "component=acme") {
		t.Errorf("the failure is not logged: %s", log)
	}
}

func TestStorageDirThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, nil)
	cfg := Defaults()
	cfg.ACME.Domains = []string{"gw.example"}
	cfg.ACME.StorageDir = filepath.Join(file, "acme")
	m, _ := newManager(t, cfg)
	if err := m.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "acme.storage_dir") {
		t.Errorf("got %v", err)
	}
}

func TestOpenStorageDirIsWarnedOf(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	log := &lockedBuffer{}
	d, err := openDirectory(dir, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if !strings.Contains(log.String(), "chmod 700") {
		t.Errorf("no warning: %s", log)
	}
}

func TestSlogCore(t *testing.T) {
	out := &lockedBuffer{}
	log := zap.New(newSlogCore(slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.LevelInfo})))).Named("obtain")
	log.Debug("hidden")
	log.With(zap.String("b", "1"), zap.Strings("a", []string{"x", "y"})).Warn("seen", zap.Error(errors.New("broken")), zap.Duration("left", time.Second))
	var got map[string]any
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	delete(got, "time")
	want := `{"a":["x","y"],"b":"1","component":"acme","error":"broken","left":1000000000,"level":"WARN","logger":"obtain","msg":"seen"}`
	if line, _ := json.Marshal(got); string(line) != want {
		t.Errorf("got %s, want %s", line, want)
	}
}
