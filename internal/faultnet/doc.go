// Package faultnet plays what stands between a gateway and its stores or senders, for tests: a proxy that fails as networks and servers do, a name server, a balancer, addresses that nobody else gets.
package faultnet
