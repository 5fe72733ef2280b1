package m3gateway_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"m3gateway/internal/config"
)

// TestCompose: the Compose file has the pieces of the stack, none with rights, and their configurations agree.
func TestCompose(t *testing.T) {
	const dir = "deploy/compose/"
	var file struct {
		Name     string
		Common   any `yaml:"x-common"`
		Services map[string]struct {
			Image, Hostname, Restart string
			Command, Volumes, Ports  []string
			ReadOnly                 bool     `yaml:"read_only"`
			CapDrop                  []string `yaml:"cap_drop"`
			SecurityOpt              []string `yaml:"security_opt"`
			Tmpfs                    []string
			Ulimits                  map[string]int
			Environment              map[string]string
			Stop                     string   `yaml:"stop_grace_period"`
			Memory                   string   `yaml:"mem_limit"`
			Depends                  []string `yaml:"depends_on"`
			Networks                 any
		}
		Networks map[string]struct{ Internal bool }
		Volumes  map[string]any
	}
	dec := yaml.NewDecoder(strings.NewReader(read(t, dir+"compose.yaml")))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil {
		t.Fatal(err)
	}
	want := []string{"etcd", "gateway", "m3-init", "m3coordinator-1", "m3coordinator-2", "m3dbnode"}
	stack := render(t, "deploy/k8s/base")
	versions := map[string]string{}
	for _, p := range stack.pods {
		image, version, _ := strings.Cut(p.template.Spec.Containers[0].Image, ":")
		versions[image] = version
	}
	var names []string
	for name, s := range file.Services {
		names = append(names, name)
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) || s.Memory == "" || s.Restart == "" {
			t.Errorf("%s has rights, or no bound on its memory: %+v", name, s)
		}
		if image, version, _ := strings.Cut(s.Image, ":"); versions[image] != version {
			t.Errorf("%s has the image %s; Kubernetes has version %q of it", name, s.Image, versions[image])
		}
		if len(s.Ports) > 0 != (name == "gateway") {
			t.Errorf("%s publishes %q", name, s.Ports)
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if _, named := file.Volumes[source]; named || slices.Contains([]string{"./users.htpasswd", "./tls.crt", "./tls.key"}, source) {
				continue
			}
			if _, err := os.Stat(dir + source); err != nil {
				t.Errorf("%s mounts %v", name, err)
			}
		}
	}
	if slices.Sort(names); !slices.Equal(names, want) {
		t.Errorf("the services are %q; want %q", names, want)
	}
	if !file.Networks["store"].Internal || file.Networks["front"].Internal {
		t.Error("the stores are reachable from outside")
	}
	init := file.Services["m3-init"].Command
	if err := checkCommand(commands(t), "gateway "+strings.Join(init, " ")); err != nil {
		t.Error(err)
	}
	cfg := load(t, read(t, dir+"gateway.yaml")).Config
	c, limits, err := config.LoadCluster(dir + "cluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if warnings, err := c.CheckPair(limits); err != nil || len(warnings) > 0 {
		t.Errorf("%q, %v", warnings, err)
	}
	if id := c.Placement.Instances[0].ID; id != file.Services["m3dbnode"].Hostname || cfg.Upstream.Pool.DNS.Name != "m3coordinator:7201" {
		t.Errorf("the placement has %s, the gateway %s", id, cfg.Upstream.Pool.DNS.Name)
	}
	ports := file.Services["gateway"].Ports
	for i, port := range []string{portOf(t, cfg.Listen.HTTPSAddress), portOf(t, cfg.Listen.HTTPAddress), portOf(t, cfg.Listen.AdminAddress)} {
		if !strings.HasSuffix(ports[i], ":"+port) {
			t.Errorf("port %s is published as %s", port, ports[i])
		}
	}
	if !strings.HasPrefix(ports[2], "127.0.0.1:") {
		t.Errorf("the admin port is published as %s", ports[2])
	}
	node, coordinator := m3Config(t, read(t, dir+"m3dbnode.yml"), nodeKeys), m3Config(t, read(t, dir+"m3coordinator.yml"), coordinatorKeys)
	for _, got := range [][]string{endpoints(node, "db.discovery.config.services.0.service"), endpoints(coordinator, "clusters.0.client.config.service")} {
		if !slices.Equal(got, []string{"http://etcd:2379"}) {
			t.Errorf("etcd is looked for at %q", got)
		}
	}
	if got := fmt.Sprint(dig(node, "db.hostID.resolver")); got != "hostname" {
		t.Errorf("the node is called by %s", got)
	}
}

// TestSystemd: the unit runs commands that there are, waits long enough for the drain, and gives no right but to bind low ports.
func TestSystemd(t *testing.T) {
	const dir = "deploy/systemd/"
	unit := read(t, dir+"m3gateway.service")
	value := func(key string) string {
		t.Helper()
		m := regexp.MustCompile(`(?m)^`+key+`=(.*)$`).FindAllStringSubmatch(unit, -1)
		if len(m) == 0 {
			t.Fatalf("the unit has no %s", key)
		}
		return m[0][1]
	}
	for _, key := range []string{"ExecStartPre", "ExecStart"} {
		if err := checkCommand(commands(t), strings.TrimPrefix(value(key), "/usr/bin/")); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	for key, want := range map[string]string{
		"User": "m3gateway", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes", "PrivateDevices": "yes",
		"CapabilityBoundingSet": "CAP_NET_BIND_SERVICE", "AmbientCapabilities": "CAP_NET_BIND_SERVICE", "MemoryDenyWriteExecute": "yes", "RestrictNamespaces": "yes",
		"SystemCallFilter": "@system-service", "UMask": "0077", "LockPersonality": "yes", "RestrictSUIDSGID": "yes",
	} {
		if got := value(key); got != want {
			t.Errorf("%s is %s; want %s", key, got, want)
		}
	}
	cfg := load(t, read(t, dir+"gateway.yaml")).Config
	stop, err := time.ParseDuration(value("TimeoutStopSec") + "s")
	if err != nil || stop <= cfg.Listen.ShutdownDelay+cfg.Listen.DrainTimeout {
		t.Errorf("the unit gives %v to stop (%v)", stop, err)
	}
	if !strings.Contains(read(t, dir+"m3gateway.sysusers.conf"), "\nu m3gateway ") || !strings.Contains(read(t, dir+"m3gateway.tmpfiles.conf"), "\nd /etc/m3gateway 0750 root m3gateway ") {
		t.Error("the user or the folder is not made")
	}
	// systemd itself, where it is installed, takes the unit and finds little that it could do.
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return
	}
	copied := filepath.Join(t.TempDir(), "m3gateway.service")
	if err := os.WriteFile(copied, []byte(strings.ReplaceAll(unit, "/usr/bin/gateway", "/bin/true")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", copied).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=20", copied).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
