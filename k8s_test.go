package m3gateway_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"go.yaml.in/yaml/v3"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	storage "k8s.io/api/storage/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"m3gateway/internal/bootstrap"
	"m3gateway/internal/config"
	"m3gateway/internal/plan"
)

// overlays are what is applied as it is; the last is a part of the others.
var overlays = []string{"deploy/k8s/overlays/vultr", "deploy/k8s/overlays/kind-dev", "deploy/k8s/base", "deploy/k8s/base/gateway"}

// whole leaves out the gateway alone.
var whole = overlays[:3]

// stack is a rendered overlay, each object decoded strictly as its API type.
type stack struct {
	objects map[string]meta.Object // by kind/namespace/name
	pods    []pods
}

// pods is what makes pods: a workload with its pod template.
type pods struct {
	kind, name, namespace string
	replicas              int32
	selector              *meta.LabelSelector // nil: a job, which makes its own
	template              core.PodTemplateSpec
}

func typed(apiVersion, kind string) any {
	switch apiVersion + " " + kind {
	case "v1 Namespace":
		return new(core.Namespace)
	case "v1 Service":
		return new(core.Service)
	case "v1 ConfigMap":
		return new(core.ConfigMap)
	case "v1 PersistentVolumeClaim":
		return new(core.PersistentVolumeClaim)
	case "apps/v1 Deployment":
		return new(apps.Deployment)
	case "apps/v1 StatefulSet":
		return new(apps.StatefulSet)
	case "apps/v1 DaemonSet":
		return new(apps.DaemonSet)
	case "batch/v1 Job":
		return new(batch.Job)
	case "batch/v1 CronJob":
		return new(batch.CronJob)
	case "policy/v1 PodDisruptionBudget":
		return new(policy.PodDisruptionBudget)
	case "autoscaling/v2 HorizontalPodAutoscaler":
		return new(autoscaling.HorizontalPodAutoscaler)
	case "networking.k8s.io/v1 NetworkPolicy":
		return new(networking.NetworkPolicy)
	case "storage.k8s.io/v1 StorageClass":
		return new(storage.StorageClass)
	case "monitoring.coreos.com/v1 PodMonitor":
		return new(monitoring.PodMonitor)
	case "monitoring.coreos.com/v1 PrometheusRule":
		return new(monitoring.PrometheusRule)
	}
	return nil // a Secret among others: none is in a file here
}

// render builds an overlay with kustomize and decodes every object: an unknown or repeated field is an error.
func render(t *testing.T, dir string) stack {
	t.Helper()
	m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	s := stack{objects: map[string]meta.Object{}}
	for _, r := range m.Resources() {
		o := typed(r.GetApiVersion(), r.GetKind())
		if o == nil {
			t.Errorf("%s: %s %s may not be there", dir, r.GetApiVersion(), r.GetKind())
			continue
		}
		data, err := r.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		strict, err := json.UnmarshalStrict(data, o)
		if err != nil || len(strict) > 0 {
			t.Errorf("%s: %s %s: %v %v", dir, r.GetKind(), r.GetName(), err, strict)
		}
		key := r.GetKind() + "/" + r.GetNamespace() + "/" + r.GetName()
		if s.objects[key] != nil {
			t.Errorf("%s: %s is there twice", dir, key)
		}
		s.objects[key] = o.(meta.Object)
		p := pods{kind: r.GetKind(), name: r.GetName(), namespace: r.GetNamespace(), replicas: 1}
		switch o := o.(type) {
		case *apps.Deployment:
			p.selector, p.template = o.Spec.Selector, o.Spec.Template
			if o.Spec.Replicas != nil {
				p.replicas = *o.Spec.Replicas
			}
		case *apps.StatefulSet:
			p.selector, p.template, p.replicas = o.Spec.Selector, o.Spec.Template, *o.Spec.Replicas
		case *apps.DaemonSet:
			p.selector, p.template = o.Spec.Selector, o.Spec.Template
		case *batch.Job:
			p.template = o.Spec.Template
		case *batch.CronJob:
			p.template = o.Spec.JobTemplate.Spec.Template
		default:
			continue
		}
		s.pods = append(s.pods, p)
	}
	return s
}

// get is the object of that kind and name, in whichever namespace.
func get[T meta.Object](t *testing.T, s stack, kind, name string) T {
	t.Helper()
	for key, o := range s.objects {
		if strings.HasPrefix(key, kind+"/") && strings.HasSuffix(key, "/"+name) {
			return o.(T)
		}
	}
	t.Fatalf("no %s %s", kind, name)
	panic("unreachable")
}

// each calls f for the objects of type T, in the order of their names.
func each[T meta.Object](s stack, f func(o T)) {
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		if o, ok := s.objects[key].(T); ok {
			f(o)
		}
	}
}

// selected are the workloads whose pods a selector finds.
func (s stack) selected(t *testing.T, namespace string, selector *meta.LabelSelector) []pods {
	t.Helper()
	sel, err := meta.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	var out []pods
	for _, p := range s.pods {
		if p.namespace == namespace && sel.Matches(labels.Set(p.template.Labels)) {
			out = append(out, p)
		}
	}
	return out
}

func (p pods) port(name string) (number int32, ok bool) {
	for _, c := range p.template.Spec.Containers {
		for _, port := range c.Ports {
			if port.Name == name {
				return port.ContainerPort, true
			}
		}
	}
	return 0, false
}

// TestPodsHaveNoRights: no root, no privileges, no service account; bounds on memory; probes; a version in every image.
func TestPodsHaveNoRights(t *testing.T) {
	for _, dir := range overlays {
		s := render(t, dir)
		for _, p := range s.pods {
			at := dir + ": " + p.kind + " " + p.name
			spec := p.template.Spec
			if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken || spec.HostNetwork || spec.HostPID || spec.HostIPC {
				t.Errorf("%s has a service account's token or a namespace of its host", at)
			}
			for _, v := range spec.Volumes {
				if v.HostPath != nil {
					t.Errorf("%s mounts %s of its host", at, v.HostPath.Path)
				}
			}
			setup := p.name == "node-sysctls" && p.namespace == "m3-node-setup"
			if c := spec.SecurityContext; !setup && (c == nil || c.RunAsNonRoot == nil || !*c.RunAsNonRoot || c.RunAsUser == nil || *c.RunAsUser == 0 ||
				c.SeccompProfile == nil || c.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault) {
				t.Errorf("%s may be root, or has no seccomp profile", at)
			}
			for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
				at := at + ", container " + c.Name
				locked := c.SecurityContext != nil && c.SecurityContext.Privileged == nil && c.SecurityContext.AllowPrivilegeEscalation != nil && !*c.SecurityContext.AllowPrivilegeEscalation &&
					c.SecurityContext.ReadOnlyRootFilesystem != nil && *c.SecurityContext.ReadOnlyRootFilesystem && c.SecurityContext.Capabilities != nil &&
					len(c.SecurityContext.Capabilities.Add) == 0 && reflect.DeepEqual(c.SecurityContext.Capabilities.Drop, []core.Capability{"ALL"})
				if !locked && !(setup && c.Name == "sysctl") {
					t.Errorf("%s is privileged, or has capabilities or a root filesystem to write to", at)
				}
				r := c.Resources
				if r.Requests.Cpu().IsZero() || r.Requests.Memory().IsZero() || r.Limits.Memory().Cmp(*r.Requests.Memory()) < 0 {
					t.Errorf("%s has the requests %v and the limits %v", at, r.Requests, r.Limits)
				}
				if !regexp.MustCompile(`^[a-z0-9./-]+:v?[0-9][0-9.]*$`).MatchString(c.Image) && c.Image != "m3gateway:dev" {
					t.Errorf("%s has the image %s, which names no version", at, c.Image)
				}
				for _, port := range c.Ports {
					if port.Name == "" {
						t.Errorf("%s has a port %d without a name", at, port.ContainerPort)
					}
				}
			}
			if p.kind != "Deployment" && p.kind != "StatefulSet" {
				continue
			}
			for _, c := range spec.Containers {
				for what, probe := range map[string]*core.Probe{"readiness": c.ReadinessProbe, "liveness": c.LivenessProbe} {
					if probe == nil {
						t.Errorf("%s, container %s has no %s probe", at, c.Name, what)
					} else if h := probe.HTTPGet; h != nil {
						if _, ok := p.port(h.Port.StrVal); !ok {
							t.Errorf("%s, container %s: the %s probe asks port %s, which has no such name", at, c.Name, what, h.Port.String())
						}
					}
				}
			}
			if len(spec.TopologySpreadConstraints) == 0 {
				t.Errorf("%s is not spread over machines", at)
			}
			for _, c := range spec.TopologySpreadConstraints {
				if got := s.selected(t, p.namespace, c.LabelSelector); len(got) != 1 || got[0].name != p.name {
					t.Errorf("%s is spread by a selector of other pods", at)
				}
			}
		}
	}
}

// TestReferences: selectors find their pods, ports have the names by which they are called, and what is mounted is there.
func TestReferences(t *testing.T) {
	for _, dir := range overlays {
		s := render(t, dir)
		one := func(what, namespace string, selector *meta.LabelSelector) pods {
			t.Helper()
			got := s.selected(t, namespace, selector)
			if len(got) == 0 {
				t.Errorf("%s: %s finds no pods", dir, what)
				return pods{}
			}
			return got[0]
		}
		for _, p := range s.pods {
			if p.selector != nil && len(s.selected(t, p.namespace, p.selector)) != 1 {
				t.Errorf("%s: the selector of %s %s does not find its pods alone", dir, p.kind, p.name)
			}
			for _, v := range p.template.Spec.Volumes {
				s.checkVolume(t, dir, p, v)
			}
		}
		each(s, func(o *core.Service) {
			p := one("Service "+o.Name, o.Namespace, &meta.LabelSelector{MatchLabels: o.Spec.Selector})
			for _, port := range o.Spec.Ports {
				if _, ok := p.port(port.TargetPort.StrVal); !ok || port.Name == "" {
					t.Errorf("%s: Service %s leads to port %s, which %s does not have", dir, o.Name, port.TargetPort.String(), p.name)
				}
				if port.TargetPort.StrVal == "admin" {
					t.Errorf("%s: Service %s leads to the admin port", dir, o.Name)
				}
			}
		})
		each(s, func(o *policy.PodDisruptionBudget) {
			if o.Spec.MaxUnavailable == nil || o.Spec.MaxUnavailable.IntValue() != 1 {
				t.Errorf("%s: %s lets more than one pod go", dir, o.Name)
			}
			one("PodDisruptionBudget "+o.Name, o.Namespace, o.Spec.Selector)
		})
		each(s, func(o *autoscaling.HorizontalPodAutoscaler) {
			get[*apps.Deployment](t, s, o.Spec.ScaleTargetRef.Kind, o.Spec.ScaleTargetRef.Name)
		})
		each(s, func(o *apps.StatefulSet) {
			if svc := get[*core.Service](t, s, "Service", o.Spec.ServiceName); svc.Spec.ClusterIP != core.ClusterIPNone || !svc.Spec.PublishNotReadyAddresses {
				t.Errorf("%s: Service %s does not name pods before they are ready", dir, svc.Name)
			}
			for _, c := range o.Spec.VolumeClaimTemplates {
				if class := c.Spec.StorageClassName; class != nil {
					get[*storage.StorageClass](t, s, "StorageClass", *class)
				}
			}
		})
		each(s, func(o *monitoring.PodMonitor) {
			p := one("PodMonitor "+o.Name, o.Namespace, &o.Spec.Selector)
			if _, ok := p.port(*o.Spec.PodMetricsEndpoints[0].Port); !ok {
				t.Errorf("%s: PodMonitor %s asks a port that %s does not have", dir, o.Name, p.name)
			}
		})
		each(s, func(o *networking.NetworkPolicy) {
			if o.Name == "default-deny" {
				return
			}
			p := one("NetworkPolicy "+o.Name, o.Namespace, &o.Spec.PodSelector)
			for _, in := range o.Spec.Ingress {
				for _, port := range in.Ports {
					if _, ok := p.port(port.Port.StrVal); !ok {
						t.Errorf("%s: NetworkPolicy %s opens port %s, which %s does not have", dir, o.Name, port.Port.String(), p.name)
					}
				}
			}
		})
	}
}

func (s stack) checkVolume(t *testing.T, dir string, p pods, v core.Volume) {
	t.Helper()
	var maps, secrets []string
	if v.ConfigMap != nil {
		maps = append(maps, v.ConfigMap.Name)
	}
	if v.PersistentVolumeClaim != nil {
		get[*core.PersistentVolumeClaim](t, s, "PersistentVolumeClaim", v.PersistentVolumeClaim.ClaimName)
	}
	if v.Projected != nil {
		for _, source := range v.Projected.Sources {
			if source.ConfigMap != nil {
				maps = append(maps, source.ConfigMap.Name)
			}
			if source.Secret != nil {
				secrets = append(secrets, source.Secret.Name)
			}
		}
	}
	for _, name := range maps {
		if s.objects["ConfigMap/"+p.namespace+"/"+name] == nil {
			t.Errorf("%s: %s mounts the ConfigMap %s, which is not there", dir, p.name, name)
		}
	}
	for _, name := range secrets {
		if !slices.Contains([]string{"m3gateway-users", "m3gateway-tls", "m3gateway-acme"}, name) {
			t.Errorf("%s: %s mounts the Secret %s, which no document tells to create", dir, p.name, name)
		}
	}
}

// TestWhoReachesWhom: the stores have no passwords; the network is their lock.
func TestWhoReachesWhom(t *testing.T) {
	want := map[string]string{
		"m3gateway https":       "anyone",
		"m3gateway http":        "anyone",
		"m3gateway plain":       "the cluster",
		"m3gateway admin":       "the cluster",
		"m3coordinator http":    "m3-init, m3gateway",
		"m3coordinator metrics": "the cluster",
		"m3dbnode node":         "m3coordinator, m3dbnode",
		"m3dbnode cluster":      "m3coordinator, m3dbnode",
		"m3dbnode metrics":      "the cluster",
		"etcd client":           "etcd, etcd-maintenance, m3coordinator, m3dbnode, m3gateway",
		"etcd peer":             "etcd",
		"etcd metrics":          "the cluster",
	}
	for _, dir := range whole {
		s := render(t, dir)
		deny := get[*networking.NetworkPolicy](t, s, "NetworkPolicy", "default-deny")
		if len(deny.Spec.PodSelector.MatchLabels)+len(deny.Spec.Ingress) != 0 || !slices.Contains(deny.Spec.PolicyTypes, networking.PolicyTypeIngress) {
			t.Errorf("%s: default-deny does not deny", dir)
		}
		reach := map[string]map[string]bool{}
		each(s, func(o *networking.NetworkPolicy) {
			for _, in := range o.Spec.Ingress {
				for _, port := range in.Ports {
					key := o.Spec.PodSelector.MatchLabels["app.kubernetes.io/name"] + " " + port.Port.StrVal
					if reach[key] == nil {
						reach[key] = map[string]bool{}
					}
					if len(in.From) == 0 {
						reach[key]["anyone"] = true
					}
					for _, from := range in.From {
						switch {
						case from.PodSelector != nil && from.NamespaceSelector == nil && from.IPBlock == nil:
							reach[key][from.PodSelector.MatchLabels["app.kubernetes.io/name"]] = true
						case from.NamespaceSelector != nil && from.PodSelector == nil:
							reach[key]["the cluster"] = true
						default:
							t.Errorf("%s: NetworkPolicy %s lets in what this test does not know", dir, o.Name)
						}
					}
				}
			}
		})
		for key := range maps.Keys(want) {
			if got := strings.Join(slices.Sorted(maps.Keys(reach[key])), ", "); got != want[key] {
				t.Errorf("%s: %s is reached by %s; want %s", dir, key, got, want[key])
			}
		}
		if len(reach) != len(want) {
			t.Errorf("%s: %d ports are open; want %d", dir, len(reach), len(want))
		}
		pools := 0
		each(s, func(o *core.Service) {
			if o.Spec.Type == core.ServiceTypeLoadBalancer {
				pools++
				if o.Name != "m3gateway" || o.Spec.ExternalTrafficPolicy != core.ServiceExternalTrafficPolicyLocal {
					t.Errorf("%s: Service %s faces outside, or hides the clients' addresses", dir, o.Name)
				}
			}
		})
		if (pools != 1) != strings.HasSuffix(dir, "kind-dev") {
			t.Errorf("%s: %d services face outside", dir, pools)
		}
	}
}

// data is a file of a ConfigMap whose name begins so.
func (s stack) data(t *testing.T, prefix, file string) string {
	t.Helper()
	var text string
	each(s, func(o *core.ConfigMap) {
		if strings.HasPrefix(o.Name, prefix) && o.Data[file] != "" {
			text = o.Data[file]
		}
	})
	if text == "" {
		t.Fatalf("no ConfigMap %s has a file %s", prefix, file)
	}
	return text
}

// Keys of M3's configurations, which M3 itself reads strictly: each of these was read by it.
const (
	nodeKeys = `db db.logging db.logging.level db.metrics db.metrics.prometheus db.metrics.prometheus.handlerPath
		db.metrics.prometheus.listenAddress db.metrics.sanitization db.metrics.samplingRate db.metrics.extended db.listenAddress
		db.clusterListenAddress db.httpNodeListenAddress db.httpClusterListenAddress db.debugListenAddress db.hostID db.hostID.resolver
		db.client db.client.writeConsistencyLevel db.client.readConsistencyLevel db.filesystem db.filesystem.filePathPrefix db.discovery
		db.discovery.type db.discovery.config db.discovery.config.services db.discovery.config.services.service` + " " + serviceKeys
	coordinatorKeys = `listenAddress logging logging.level metrics metrics.scope metrics.scope.prefix metrics.prometheus
		metrics.prometheus.handlerPath metrics.prometheus.listenAddress metrics.sanitization metrics.samplingRate metrics.extended tagOptions
		tagOptions.idScheme clusters clusters.client clusters.client.writeConsistencyLevel clusters.client.readConsistencyLevel
		clusters.client.config clusters.client.config.service downsample downsample.bufferPastLimits downsample.bufferPastLimits.resolution
		downsample.bufferPastLimits.bufferPast limits limits.perQuery limits.perQuery.maxFetchedSeries limits.perQuery.maxFetchedDocs
		limits.perQuery.requireExhaustive query query.timeout` + " " + serviceKeys
	serviceKeys = "env zone service cacheDir etcdClusters etcdClusters.zone etcdClusters.endpoints" // below config.service
)

// m3Config decodes a configuration of M3 whose keys are all in known.
func m3Config(t *testing.T, text, known string) any {
	t.Helper()
	list := strings.Fields(known)
	for key := range keyPaths(t, text) {
		short := key
		for _, prefix := range []string{"db.discovery.config.services.service.", "clusters.client.config.service."} {
			short = strings.TrimPrefix(short, prefix)
		}
		if !slices.Contains(list, short) {
			t.Errorf("%s is no key that M3 is known to read", key)
		}
	}
	var out any
	if err := yaml.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// endpoints are the etcd members in the service section at a path of a configuration of M3.
func endpoints(config any, at string) []string {
	var out []string
	l, _ := dig(config, at+".etcdClusters.0.endpoints").([]any)
	for _, e := range l {
		out = append(out, fmt.Sprint(e))
	}
	return out
}

// TestStackConfiguration: what the ConfigMaps hold passes the checks of gateway check and gateway m3 init, and agrees with the
// objects around it.
func TestStackConfiguration(t *testing.T) {
	for _, dir := range whole {
		s := render(t, dir)
		cfg := load(t, s.data(t, "m3gateway", "gateway.yaml")).Config
		coordinatorText := s.data(t, "m3coordinator", "m3coordinator.yml")
		c, limits, err := config.ParseCluster("cluster.yaml", []byte(s.data(t, "m3-cluster", "cluster.yaml")), os.LookupEnv,
			func(file string) ([]byte, error) {
				if file != "m3coordinator.yml" {
					return nil, os.ErrNotExist
				}
				return []byte(coordinatorText), nil
			})
		if err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
		if warnings, err := c.CheckPair(limits); err != nil || len(warnings) > 0 {
			t.Errorf("%s: %q, %v", dir, warnings, err)
		}
		if raw, _ := c.RawNamespace(); raw != cfg.Upstream.Store.Namespace || !cfg.Limits.Window.Past.Auto {
			t.Errorf("%s: the gateway looks for namespace %s, and its window is %+v", dir, cfg.Upstream.Store.Namespace, cfg.Limits.Window)
		}
		nodes := get[*apps.StatefulSet](t, s, "StatefulSet", "m3dbnode")
		set := c.Placement.StatefulSet
		if set.Name != nodes.Name || set.Service != nodes.Spec.ServiceName || int32(set.Replicas) != *nodes.Spec.Replicas {
			t.Errorf("%s: cluster.yaml has %+v; the StatefulSet has %d replicas", dir, set, *nodes.Spec.Replicas)
		}
		node, coordinator := m3Config(t, s.data(t, "m3dbnode", "m3dbnode.yml"), nodeKeys), m3Config(t, coordinatorText, coordinatorKeys)
		of := func(config any, at string) string { return fmt.Sprint(dig(config, at)) }
		for name, address := range map[string]string{
			"m3dbnode node": of(node, "db.listenAddress"), "m3dbnode cluster": of(node, "db.clusterListenAddress"), "m3dbnode http": of(node, "db.httpNodeListenAddress"),
			"m3dbnode metrics": of(node, "db.metrics.prometheus.listenAddress"), "m3coordinator http": of(coordinator, "listenAddress"), "m3coordinator metrics": of(coordinator, "metrics.prometheus.listenAddress"),
			"m3gateway https": cfg.Listen.HTTPSAddress, "m3gateway http": cfg.Listen.HTTPAddress, "m3gateway plain": cfg.Listen.Plain.Address, "m3gateway admin": cfg.Listen.AdminAddress,
		} {
			app, port, _ := strings.Cut(name, " ")
			got, ok := s.selected(t, nodes.Namespace, &meta.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/name": app}})[0].port(port)
			if !ok || portOf(t, address) != fmt.Sprint(got) {
				t.Errorf("%s: %s is port %d of the pod and %s in the configuration", dir, name, got, address)
			}
		}
		if int32(set.Port) != 9000 || cfg.Upstream.Pool.DNS.Name != "m3coordinator:7201" || !slices.Equal(c.Coordinators.URLs, []string{"http://m3coordinator-admin:7201"}) {
			t.Errorf("%s: %+v, %s, %s", dir, set, cfg.Upstream.Pool.DNS.Name, c.Coordinators.URLs)
		}
		lists := [][]string{endpoints(node, "db.discovery.config.services.0.service"),
			endpoints(coordinator, "clusters.0.client.config.service")}
		if len(cfg.TLS.ACME.Domains) > 0 {
			lists = append(lists, cfg.TLS.ACME.Etcd.Endpoints)
		}
		s.checkEtcd(t, dir, lists)
		checkDrain(t, dir, s, c, limits, cfg)
	}
}

// checkEtcd: everyone names the same members, which are the pods.
func (s stack) checkEtcd(t *testing.T, dir string, lists [][]string) {
	t.Helper()
	etcd := get[*apps.StatefulSet](t, s, "StatefulSet", "etcd")
	var want, peers []string
	for i := range *etcd.Spec.Replicas {
		want = append(want, fmt.Sprintf("http://etcd-%d.etcd:2379", i))
		peers = append(peers, fmt.Sprintf("etcd-%d=http://etcd-%[1]d.etcd:2380", i))
	}
	for _, l := range lists {
		if !slices.Equal(l, want) {
			t.Errorf("%s: %q names other members than %q", dir, l, want)
		}
	}
	for _, e := range etcd.Spec.Template.Spec.Containers[0].Env {
		if e.Name == "ETCD_INITIAL_CLUSTER" && e.Value != strings.Join(peers, ",") {
			t.Errorf("%s: the members are %s; want %s", dir, e.Value, strings.Join(peers, ","))
		}
	}
}

// checkDrain: a coordinator that goes writes its open windows before, and a gateway answers its requests.
func checkDrain(t *testing.T, dir string, s stack, c *bootstrap.Config, limits bootstrap.PastLimits, cfg *config.Config) {
	t.Helper()
	var need time.Duration
	for _, n := range c.Namespaces {
		if !n.Raw() {
			need = max(need, limits.For(n.Resolution)+n.Resolution)
		}
	}
	// A quarter of a minute until the gateways' look-ups have noticed, and as long for the flush.
	need += 2*cfg.Upstream.Pool.DNS.Interval + 10*time.Second
	for name, least := range map[string]time.Duration{"m3coordinator": need, "m3gateway": time.Second} {
		d := get[*apps.Deployment](t, s, "Deployment", name)
		spec := d.Spec.Template.Spec
		stop := time.Duration(spec.Containers[0].Lifecycle.PreStop.Sleep.Seconds) * time.Second
		if stop < least {
			t.Errorf("%s: %s waits %v before it stops; its windows need %v", dir, name, stop, least)
		}
		if name == "m3gateway" {
			stop += cfg.Listen.ShutdownDelay + cfg.Listen.DrainTimeout
		}
		if grace := time.Duration(*spec.TerminationGracePeriodSeconds) * time.Second; grace <= stop {
			t.Errorf("%s: %s has %v to stop, and needs %v", dir, name, grace, stop)
		}
		if u := d.Spec.Strategy.RollingUpdate; u == nil || u.MaxUnavailable.IntValue() != 0 {
			t.Errorf("%s: an update of %s takes pods away before others are there", dir, name)
		}
	}
}

// TestCoordinatorReadiness: the probe's pattern takes only an answer that has the raw namespace on both sides.
func TestCoordinatorReadiness(t *testing.T) {
	s := render(t, "deploy/k8s/base")
	command := get[*apps.Deployment](t, s, "Deployment", "m3coordinator").Spec.Template.Spec.Containers[0].ReadinessProbe.Exec.Command
	m := regexp.MustCompile(`grep -q '([^']+)'$`).FindStringSubmatch(command[len(command)-1])
	if m == nil {
		t.Fatalf("the probe is %q", command)
	}
	pattern := regexp.MustCompile(m[1])
	for answer, want := range map[string]bool{
		`{}`: false,
		`{"readyReads":[{"id":"default","attributes":{"metricsType":"unaggregated"}}],"readyWrites":[{"id":"default","attributes":{}}]}`: true,
		`{"readyReads":[{"id":"agg_1m_1y"},{"id":"default"}],"readyWrites":[{"id":"agg_1m_1y"},{"id":"default"}]}`:                       true,
		`{"readyReads":[{"id":"agg_1m_1y"}],"readyWrites":[{"id":"default"}]}`:                                                           false,
		`{"readyReads":[{"id":"default"}],"readyWrites":[{"id":"agg_1m_1y"}]}`:                                                           false,
		`{"readyReads":[{"id":"default_2"}],"readyWrites":[{"id":"default_2"}]}`:                                                         false,
	} {
		if pattern.MatchString(answer) != want {
			t.Errorf("%s: ready %v; want %v", answer, !want, want)
		}
	}
}

// TestSizes: the planner finds no fault with what the Vultr overlay gives, for the series that its comments name.
func TestSizes(t *testing.T) {
	s := render(t, "deploy/k8s/overlays/vultr")
	nodes := get[*apps.StatefulSet](t, s, "StatefulSet", "m3dbnode")
	coordinator := get[*apps.Deployment](t, s, "Deployment", "m3coordinator")
	in := plan.Defaults()
	in.Series = 40_000
	for key, value := range map[string]string{
		"nodes": fmt.Sprint(*nodes.Spec.Replicas), "coordinators": fmt.Sprint(*coordinator.Spec.Replicas),
		"disk":               fmt.Sprint(nodes.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage().Value()),
		"memory":             fmt.Sprint(nodes.Spec.Template.Spec.Containers[0].Resources.Limits.Memory().Value()),
		"coordinator-memory": fmt.Sprint(coordinator.Spec.Template.Spec.Containers[0].Resources.Limits.Memory().Value()),
		"map_limit":          "3000000",
	} {
		if err := in.Set(key, value); err != nil {
			t.Fatalf("%s=%s: %v", key, value, err)
		}
	}
	for _, f := range plan.Compute(in).Findings {
		if f.Level == plan.Problem {
			t.Errorf("gateway plan: %s", f)
		}
	}
	for _, c := range s.pods {
		if c.name == "node-sysctls" && !slices.Contains(c.template.Spec.InitContainers[0].Command, "vm.max_map_count=3000000") {
			t.Error("node-sysctls does not set what the plan assumes")
		}
	}
	if class := get[*storage.StorageClass](t, s, "StorageClass", "m3-nvme"); class.AllowVolumeExpansion == nil || !*class.AllowVolumeExpansion {
		t.Error("volumes cannot grow")
	}
	if h := get[*autoscaling.HorizontalPodAutoscaler](t, s, "HorizontalPodAutoscaler", "m3gateway"); *h.Spec.MinReplicas < 2 {
		t.Error("one gateway is too few")
	}
}

// TestOperatorRules: the PrometheusRule has the rules of deploy/prometheus, which promtool tests.
func TestOperatorRules(t *testing.T) {
	var object, file map[string]any
	if err := yaml.Unmarshal([]byte(read(t, "deploy/k8s/components/monitoring/prometheusrule.yaml")), &object); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(read(t, "deploy/prometheus/m3gateway.rules.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	if got := dig(object, "spec.groups"); file["groups"] == nil || !reflect.DeepEqual(got, file["groups"]) {
		t.Error("deploy/k8s/components/monitoring/prometheusrule.yaml and deploy/prometheus/m3gateway.rules.yaml differ")
	}
}

// TestEveryManifestIsUsed: no file of deploy/k8s is forgotten by the kustomization beside it.
func TestEveryManifestIsUsed(t *testing.T) {
	files, err := filepath.Glob("deploy/k8s/*/*/*.y*ml")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if name := filepath.Base(f); name != "kustomization.yaml" && !strings.Contains(read(t, filepath.Join(filepath.Dir(f), "kustomization.yaml")), name) {
			t.Errorf("%s is in no kustomization", f)
		}
	}
}
