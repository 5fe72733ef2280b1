//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"image"
	"image/png"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"m3gateway/internal/plan"
)

// chromium opens file in a headless browser with flags and returns what that prints.
func chromium(t *testing.T, file string, flags ...string) []byte {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v; install Debian's chromium, or leave this test out with -skip '^TestPlanPage'", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	args := append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
		"--disable-sync", "--hide-scrollbars", "--user-data-dir=" + t.TempDir(), "--enable-logging=stderr",
	}, flags...)
	cmd := exec.CommandContext(ctx, path, append(args, "file://"+file)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("chromium: %v\n%s", err, stderr.Bytes())
	}
	for line := range strings.Lines(stderr.String()) {
		if strings.Contains(line, "CONSOLE") {
			t.Errorf("the page complains: %s", line)
		}
	}
	return stdout.Bytes()
}

// driver moves every slider of the page, changes every kind of field, and notes after each move what the page says: the input, as
// its address keeps it, its numbers, its findings, and texts of charts that lie over one another.
const driver = `<script>
"use strict";
const moves = [];
function note(move) {
  const texts = (selector) => [...document.querySelectorAll(selector)].map((e) => e.textContent);
  const overlaps = [];
  for (const svg of document.querySelectorAll(".chart svg")) {
    const boxes = [...svg.querySelectorAll("text")].map((e) => [e.textContent, e.getBoundingClientRect()]);
    boxes.forEach(([a, r], i) => boxes.slice(i + 1).forEach(([b, s]) => {
      if (r.left < s.right - 1 && s.left < r.right - 1 && r.top < s.bottom - 3 && s.top < r.bottom - 3) overlaps.push(a + " | " + b);
    }));
  }
  moves.push({
    move, hash: location.hash, faults: document.getElementById("faults").hidden ? "" : document.getElementById("faults").textContent,
    tiles: texts("#tiles .value"), cells: [...document.querySelectorAll("#namespaces tbody tr")].map((r) => [...r.cells].slice(6, 14).map((c) => c.textContent)),
    findings: texts("#findings li span:last-child"), levels: texts("#findings .badge"), overlaps,
    wide: document.documentElement.scrollWidth > innerWidth, charts: [...document.querySelectorAll(".chart svg")].map((e) => e.getAttribute("aria-label")),
  });
}
function slide(id, to) {
  const range = document.getElementById(id);
  range.value = to < 0 ? +range.max + 1 + to : to;
  range.dispatchEvent(new Event("input"));
  note(id + " to " + range.value);
}
function pick(select, by) {
  select.selectedIndex = (select.selectedIndex + by + select.length) % select.length;
  select.dispatchEvent(new Event("change"));
  note(select.getAttribute("aria-label"));
}
note("start");
for (const range of document.querySelectorAll("#sliders input")) {
  const before = range.value;
  slide(range.id, Math.floor(+range.max / 2));
  slide(range.id, -1);
  slide(range.id, before);
}
slide("s-series", 3);
slide("s-nodes", -1);
for (const select of document.querySelectorAll("#namespaces select")) {
  pick(select, 1);
  pick(select, -1);
}
for (const box of document.querySelectorAll("#assumptions input")) {
  const before = box.value;
  box.value = before * 0.9;
  box.dispatchEvent(new Event("input"));
  note(box.id);
  box.value = before;
  box.dispatchEvent(new Event("input"));
}
document.getElementById("add").click();
note("add");
document.querySelector("#namespaces button").click();
note("drop");
slide("s-replicas", -1);
slide("s-nodes", 0);
document.getElementById("reset").click();
note("reset");
document.body.replaceChildren(Object.assign(document.createElement("pre"), {id: "moves", textContent: JSON.stringify(moves)}));
</script></body>`

type pageMove struct {
	Move, Hash, Faults                        string
	Tiles, Findings, Levels, Overlaps, Charts []string
	Cells                                     [][]string
	Wide                                      bool
}

// moved opens the page with the driver and returns what it noted.
func moved(t *testing.T, page []byte, width int) []pageMove {
	t.Helper()
	file := filepath.Join(t.TempDir(), "plan.html")
	writeFile(t, file, strings.Replace(string(page), "</body>", driver, 1))
	dom := string(chromium(t, file, "--dump-dom", fmt.Sprintf("--window-size=%d,2000", width)))
	_, text, found := strings.Cut(dom, `<pre id="moves">`)
	text, _, whole := strings.Cut(text, "</pre>")
	var moves []pageMove
	if err := json.Unmarshal([]byte(html.UnescapeString(text)), &moves); err != nil || !found || !whole {
		t.Fatalf("the driver did not end (%v):\n%.2000s", err, dom)
	}
	return moves
}

// TestPlanPage: in a real browser every number that the page shows after every move of a slider or a field is the one that Go
// computes for the input which the page then has.
func TestPlanPage(t *testing.T) {
	gateway := binary(t, "gateway")
	pages := map[string][]string{
		"defaults": nil,
		"given": {"--series", "1234567", "--scrape-interval", "20s", "--nodes", "7", "--shards", "100", "--disk", "2TiB", "--memory", "64GiB", "--coordinator-memory", "32GiB", "--namespace", "raw,retention=3d,block=2h",
			"--namespace", "five,resolution=5m,retention=90d,block=1d,share=0.4", "--namespace", "one,resolution=1m,retention=1y,block=12h", "--assume", "map_limit=3000000"},
	}
	for name, args := range pages {
		t.Run(name, func(t *testing.T) {
			page, err := exec.Command(gateway, append([]string{"plan", "--html", "-"}, args...)...).Output()
			if err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(gateway, append([]string{"plan", "--json"}, args...)...).Output()
			if err != nil {
				t.Fatal(err)
			}
			var started plan.Plan
			if err := json.Unmarshal(out, &started); err != nil {
				t.Fatal(err)
			}
			moves := moved(t, page, 1400)
			seen, faults := map[string]bool{}, 0
			for _, m := range moves {
				in := started.Input
				if text, ok := strings.CutPrefix(m.Hash, "#"); ok {
					in = inputOf(t, text)
				}
				if m.Faults != "" {
					faults++
					if in.Validate() == nil {
						t.Errorf("%s: the page refuses what Go takes: %s", m.Move, m.Faults)
					}
					continue
				}
				checkMove(t, m, in)
				seen[m.Hash] = true
			}
			if last := moves[len(moves)-1]; last.Move != "reset" || last.Hash != "" || moves[0].Hash != "" {
				t.Errorf("it starts at %q and ends with %+v", moves[0].Hash, last)
			}
			if len(moves) < 80 || len(seen) < 60 || faults == 0 {
				t.Errorf("%d moves, %d inputs, %d with faults; the driver did less than it should", len(moves), len(seen), faults)
			}
		})
	}
}

func inputOf(t *testing.T, hash string) plan.Input {
	t.Helper()
	text, err := url.PathUnescape(hash)
	var in plan.Input
	if err == nil {
		dec := json.NewDecoder(strings.NewReader(text))
		dec.DisallowUnknownFields()
		err = dec.Decode(&in)
	}
	if err != nil {
		t.Fatalf("%v in %s", err, hash)
	}
	return in
}

// checkMove compares what the page shows with Go's plan for in.
func checkMove(t *testing.T, m pageMove, in plan.Input) {
	t.Helper()
	if err := in.Validate(); err != nil {
		t.Fatalf("%s: the page takes what Go refuses: %v", m.Move, err)
	}
	p := plan.Compute(in)
	equal := func(what string, got, want []string) {
		t.Helper()
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("%s: %s\n%q\nwant\n%q", m.Move, what, got, want)
		}
	}
	equal("tiles", m.Tiles, []string{plan.Bytes(p.Disk.NeededBytes), plan.Bytes(p.Memory.NeededBytes), plan.Count(p.Files.Files), plan.Bytes(p.Coordinator.NeededBytes), plan.Short(p.NodeCores), plan.Short(p.SamplesPerSecond)})
	for i, n := range p.Namespaces {
		if i >= len(m.Cells) {
			t.Fatalf("%s: %d rows for %d namespaces", m.Move, len(m.Cells), len(p.Namespaces))
		}
		c := m.Cells[i]
		equal(n.Name, []string{c[0], c[3], c[4], c[5], c[6], c[7]},
			[]string{plan.Count(n.PointsPerBlock), plan.Bytes(n.DiskBytes), plan.Count(n.Files), plan.Count(n.PeakPoints), plan.Bytes(n.MemoryBytes), plan.Bytes(n.AggregationBytes)})
	}
	var texts, levels []string
	for _, f := range p.Findings {
		texts, levels = append(texts, f.Text()), append(levels, string(f.Level))
	}
	equal("findings", m.Findings, texts)
	equal("levels", m.Levels, levels)
	if len(m.Charts) != 3 || !strings.Contains(m.Charts[1], plan.Bytes(p.Memory.NeededBytes)) || !strings.Contains(m.Charts[2], plan.Count(p.Files.Maps)) {
		t.Errorf("%s: charts %q", m.Move, m.Charts)
	}
	if len(m.Overlaps) > 0 || m.Wide {
		t.Errorf("%s: texts lie over one another: %q; wider than the window: %v", m.Move, m.Overlaps, m.Wide)
	}
}

// TestPlanPageLooks: the page is drawn, light and dark, and fits a telephone. With M3GATEWAY_SCREENSHOTS set to a directory, the
// pictures stay there to be looked at.
func TestPlanPageLooks(t *testing.T) {
	page := filepath.Join(t.TempDir(), "plan.html")
	if out, err := exec.Command(binary(t, "gateway"), "plan", "--html", page, "--disk", "2TiB", "--memory", "64GiB").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dir := os.Getenv("M3GATEWAY_SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	for name, c := range map[string]struct {
		width, height int
		flags         []string
		dark          bool
	}{
		"light":     {1400, 2900, nil, false},
		"dark":      {1400, 2900, []string{"--blink-settings=preferredColorScheme=0"}, true},
		"telephone": {500, 3600, nil, false},
	} {
		file := filepath.Join(dir, "plan-"+name+".png")
		chromium(t, page, append(c.flags, "--screenshot="+file, fmt.Sprintf("--window-size=%d,%d", c.width, c.height))...)
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.Decode(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		colours, brightness := looked(img)
		if img.Bounds().Dx() != c.width || colours < 100 || (brightness < 0.4) != c.dark {
			t.Errorf("%s: %v, %d colours, brightness %.2f", name, img.Bounds(), colours, brightness)
		}
	}
}

// looked counts the colours of a picture and says how bright it is, from 0 to 1.
func looked(img image.Image) (colours int, brightness float64) {
	seen, sum, n := map[[3]uint32]bool{}, 0.0, 0.0
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y += 2 {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x += 2 {
			r, g, b, _ := img.At(x, y).RGBA()
			seen[[3]uint32{r, g, b}] = true
			sum += float64(r+g+b) / (3 * 0xffff)
			n++
		}
	}
	return len(seen), sum / n
}
