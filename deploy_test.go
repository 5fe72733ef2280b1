package m3gateway_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"m3gateway/internal/config"
)

const base = "deploy/k8s/base/gateway/"

// manifest decodes the one document of a file under base. A key given twice is an error of the decoder.
func manifest(t *testing.T, name string) map[string]any {
	t.Helper()
	dec := yaml.NewDecoder(bytes.NewReader([]byte(read(t, base+name))))
	var out map[string]any
	if err := dec.Decode(&out); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		t.Errorf("%s has a second document (%v)", name, err)
	}
	return out
}

// dig is the value at a path as a.b.0.c; it is nil if there is none.
func dig(v any, dotted string) any {
	for key := range strings.SplitSeq(dotted, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(in) {
				return nil
			}
			v = in[i]
		default:
			return nil
		}
	}
	return v
}

// list is dig for a list that must not be empty.
func list(t *testing.T, v any, dotted string) []any {
	t.Helper()
	l, _ := dig(v, dotted).([]any)
	if len(l) == 0 {
		t.Errorf("%s is missing", dotted)
	}
	return l
}

func expect(t *testing.T, v any, want map[string]any) {
	t.Helper()
	for at, w := range want {
		if got := dig(v, at); fmt.Sprint(got) != fmt.Sprint(w) {
			t.Errorf("%s is %v; want %v", at, got, w)
		}
	}
}

// deployed is the configuration in the ConfigMap, read as the gateway reads it.
func deployed(t *testing.T) *config.Config {
	t.Helper()
	return load(t, read(t, base+"gateway.yaml")).Config
}

func portOf(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestKustomization(t *testing.T) {
	k := manifest(t, "kustomization.yaml")
	kinds := map[string]string{}
	for _, r := range list(t, k, "resources") {
		m := manifest(t, r.(string))
		name := "m3gateway"
		if r == "service-internal.yaml" {
			name = "m3gateway-internal"
		}
		kinds[fmt.Sprint(m["kind"])] = fmt.Sprint(m["apiVersion"])
		expect(t, m, map[string]any{"metadata.name": name, "metadata.namespace": nil, "metadata.labels": dig(k, "configMapGenerator.0.options.labels")})
	}
	if want := map[string]string{"Deployment": "apps/v1", "Service": "v1", "PodDisruptionBudget": "policy/v1", "HorizontalPodAutoscaler": "autoscaling/v2"}; fmt.Sprint(kinds) != fmt.Sprint(want) {
		t.Errorf("the resources are %v; want %v", kinds, want)
	}
	expect(t, k, map[string]any{
		"configMapGenerator.0.name": "m3gateway", "configMapGenerator.0.files": "[gateway.yaml]",
		"configMapGenerator.0.options.disableNameSuffixHash": true, "secretGenerator": nil,
		"images.0.name": dig(manifest(t, "deployment.yaml"), "spec.template.spec.containers.0.image"),
	})
}

// TestPod: the pod has no rights, and what it mounts is what the configuration names.
func TestPod(t *testing.T) {
	pod := dig(manifest(t, "deployment.yaml"), "spec.template.spec")
	user := regexp.MustCompile(`(?m)^USER (\d+):(\d+)$`).FindStringSubmatch(read(t, "Dockerfile"))
	if user == nil || user[1] == "0" {
		t.Fatal("the Dockerfile sets no numeric USER other than root")
	}
	expect(t, pod, map[string]any{
		"automountServiceAccountToken": false, "hostNetwork": nil, "initContainers": nil,
		"securityContext.runAsNonRoot": true, "securityContext.runAsUser": user[1], "securityContext.fsGroup": user[2],
		"securityContext.seccompProfile.type":                   "RuntimeDefault",
		"containers.0.securityContext.allowPrivilegeEscalation": false, "containers.0.securityContext.privileged": nil,
		"containers.0.securityContext.readOnlyRootFilesystem": true, "containers.0.securityContext.capabilities": "map[drop:[ALL]]",
		"containers.0.readinessProbe.httpGet": "map[path:/readyz port:admin]", "containers.0.livenessProbe.httpGet": "map[path:/healthz port:admin]",
		"containers.0.volumeMounts.0.mountPath": "/etc/m3gateway", "containers.0.volumeMounts.0.readOnly": true, "containers.1": nil,
	})
	for _, at := range []string{"requests.cpu", "requests.memory", "limits.memory"} {
		if dig(pod, "containers.0.resources."+at) == nil {
			t.Errorf("resources.%s is missing", at)
		}
	}
	var args []string
	for _, a := range list(t, pod, "containers.0.args") {
		args = append(args, a.(string))
	}
	if err := checkCommand(commands(t), "gateway "+strings.Join(args, " ")); err != nil {
		t.Error(err)
	}
	var mounted []string
	for _, source := range list(t, pod, "volumes.0.projected.sources") { // m3gateway-acme is for configurations of overlays
		for _, kind := range []string{"configMap", "secret"} {
			items, _ := dig(source, kind+".items").([]any)
			for _, i := range items {
				mounted = append(mounted, "/etc/m3gateway/"+dig(i, "path").(string))
			}
		}
	}
	cfg := deployed(t)
	named := []string{args[len(args)-1], cfg.Auth.HtpasswdFile}
	for _, p := range cfg.TLS.Certificates {
		named = append(named, p.CertFile, p.KeyFile)
	}
	for _, f := range named {
		if !slices.Contains(mounted, "/etc/m3gateway/"+path.Base(f)) {
			t.Errorf("the configuration names %s; the pod mounts %v", path.Base(f), mounted)
		}
	}
	grace, _ := dig(pod, "terminationGracePeriodSeconds").(int)
	preStop, _ := dig(pod, "containers.0.lifecycle.preStop.sleep.seconds").(int)
	if need := time.Duration(preStop)*time.Second + cfg.Listen.ShutdownDelay + cfg.Listen.DrainTimeout; preStop < 1 || time.Duration(grace)*time.Second <= need {
		t.Errorf("terminationGracePeriodSeconds is %d; preStop, shutdown_delay and drain_timeout are %v together", grace, need)
	}
}

// TestPorts: the configuration, the image, the container, the Service and the probes mean the same ports, and the admin port,
// which has no password, has no Service.
func TestPorts(t *testing.T) {
	l := deployed(t).Listen
	want := map[string]string{"https": portOf(t, l.HTTPSAddress), "http": portOf(t, l.HTTPAddress), "plain": portOf(t, l.Plain.Address), "admin": portOf(t, l.AdminAddress)}
	if host, _, _ := net.SplitHostPort(l.AdminAddress); host != "" {
		t.Errorf("admin_address is %q; probes come from outside the pod", l.AdminAddress)
	}
	deployment, service := manifest(t, "deployment.yaml"), manifest(t, "service.yaml")
	got := map[string]string{}
	for _, p := range list(t, deployment, "spec.template.spec.containers.0.ports") {
		got[fmt.Sprint(dig(p, "name"))] = fmt.Sprint(dig(p, "containerPort"))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the container has %v, its configuration %v", got, want)
	}
	served := map[string]string{}
	for _, p := range list(t, service, "spec.ports") {
		served[fmt.Sprint(dig(p, "targetPort"))] = fmt.Sprint(dig(p, "port"))
	}
	if w := map[string]string{"https": strconv.Itoa(l.PublicHTTPSPort), "http": "80"}; fmt.Sprint(served) != fmt.Sprint(w) {
		t.Errorf("the Service has %v; want %v", served, w)
	}
	internal := manifest(t, "service-internal.yaml")
	expect(t, internal, map[string]any{"spec.type": "ClusterIP", "spec.ports.0.targetPort": "plain", "spec.ports.0.port": want["plain"], "spec.ports.1": nil,
		"spec.selector": dig(service, "spec.selector")})
	labels := dig(deployment, "spec.template.metadata.labels")
	expect(t, deployment, map[string]any{"spec.selector.matchLabels": labels, "spec.template.spec.topologySpreadConstraints.0.labelSelector.matchLabels": labels})
	expect(t, service, map[string]any{"spec.selector": labels})
	expect(t, manifest(t, "poddisruptionbudget.yaml"), map[string]any{"spec.selector.matchLabels": labels, "spec.maxUnavailable": 1})

	exposed := regexp.MustCompile(`(?m)^EXPOSE (.*)$`).FindStringSubmatch(read(t, "Dockerfile"))
	if exposed == nil || exposed[1] != want["https"]+" "+want["http"]+" "+want["admin"] {
		t.Errorf("the Dockerfile exposes %v; want %v", exposed, want)
	}
}

// TestDockerfile: the image's command and paths exist, and what .dockerignore leaves out is not what the binary is built from.
func TestDockerfile(t *testing.T) {
	text := read(t, "Dockerfile")
	entry := regexp.MustCompile(`ENTRYPOINT \["/(\w+)"\]\nCMD \[(.*)\]`).FindStringSubmatch(text)
	if entry == nil {
		t.Fatal("no ENTRYPOINT and CMD")
	}
	line := entry[1] + " " + strings.NewReplacer(`"`, "", ",", "").Replace(entry[2])
	if err := checkCommand(commands(t), line); err != nil {
		t.Errorf("%s: %v", line, err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))
	if !strings.Contains(text, "FROM golang:"+version[1]+" AS build\n") {
		t.Errorf("the Dockerfile does not build with Go %s, which go.mod asks for", version[1])
	}
	ignored := strings.Fields(regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(read(t, ".dockerignore"), ""))
	seen := map[string]bool{}
	var need func(dir string)
	need = func(dir string) {
		if seen[dir] {
			return
		}
		seen[dir] = true
		if slices.Contains(ignored, dir) {
			t.Errorf(".dockerignore leaves out %s, which cmd/gateway is built from", dir)
		}
		for _, d := range mayImport[dir] {
			need(d)
		}
	}
	need("cmd/gateway")
	if len(seen) < 10 {
		t.Errorf("only %v looked at", seen)
	}
}
