package certs

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// etcdAt is a storage at endpoint below prefix, with an encryption key or none.
func etcdAt(endpoint, prefix, key string) *etcd {
	cfg := Defaults().ACME.Etcd
	cfg.Endpoints, cfg.Prefix, cfg.EncryptionKey = []string{endpoint}, prefix, key
	files, err := readEtcdFiles(cfg)
	if err != nil {
		panic(err)
	}
	log := slog.New(slog.DiscardHandler)
	return openEtcd(cfg, files, log, newMetrics(prometheus.NewRegistry(), new(Manager)), time.Now)
}
