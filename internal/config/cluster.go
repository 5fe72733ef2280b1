package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"time"

	"go.yaml.in/yaml/v3"

	"m3gateway/internal/bootstrap"
)

// LoadCluster reads a cluster.yaml as Load reads a configuration, and with it the limits of the coordinators' own file, which
// are nil if the cluster.yaml names none.
func LoadCluster(path string) (*bootstrap.Config, bootstrap.PastLimits, error) {
	data, err := readBounded(path, maxConfigBytes)
	if err != nil {
		return nil, nil, join(path, []problem{{1, 1, fmt.Sprintf("cannot be read: %v; give the file's path with --cluster", err)}})
	}
	return ParseCluster(path, data, os.LookupEnv, func(file string) ([]byte, error) { return readBounded(file, maxConfigBytes) })
}

// ParseCluster is LoadCluster for content that is already read, with the parameters of Parse.
func ParseCluster(path string, data []byte, env func(string) (string, bool), readFile func(string) ([]byte, error)) (*bootstrap.Config, bootstrap.PastLimits, error) {
	root, p := document(data, `section "placement"`)
	if p != nil {
		return nil, nil, join(path, []problem{*p})
	}
	c := bootstrap.Defaults()
	d := &decoder{
		path: path, whole: reflect.TypeOf(c), env: env, readFile: readFile,
		places: map[string]place{}, broken: map[string]bool{},
	}
	whole := field{typ: d.whole}
	d.refused(root, root, "the file", whole)
	d.section(root, "", whole, reflect.ValueOf(&c).Elem())
	c.Check(d.checked)
	var limits bootstrap.PastLimits
	if file := c.Coordinators.ConfigFile; file != "" {
		data, err := readFile(file)
		if err == nil {
			limits, err = pastLimits(data)
		}
		if err != nil {
			d.checked("coordinators.config_file", err.Error())
		}
	}
	if len(d.problems) > 0 {
		return nil, nil, join(path, d.problems)
	}
	return &c, limits, nil
}

// pastLimits reads downsample.bufferPastLimits of an m3coordinator's configuration. The rest of it is not ours to judge.
func pastLimits(data []byte) (bootstrap.PastLimits, error) {
	var file struct {
		Downsample struct {
			Limits []struct {
				Resolution time.Duration `yaml:"resolution"`
				BufferPast time.Duration `yaml:"bufferPast"`
			} `yaml:"bufferPastLimits"`
		} `yaml:"downsample"`
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		return nil, errors.New("is no configuration of an m3coordinator, whose downsample.bufferPastLimits is a list of resolution and bufferPast")
	}
	if len(file.Downsample.Limits) == 0 {
		return bootstrap.DefaultPastLimits(), nil
	}
	var limits bootstrap.PastLimits
	for _, l := range file.Downsample.Limits {
		limits = append(limits, bootstrap.PastLimit(l))
	}
	return limits, nil
}
