// coredns with the plugins that a cluster's DNS needs. The upstream main links every plugin, cloud SDKs and all,
// which more than doubles the build; this list is what kubeadm's Corefile names, and a few that one adds by hand.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/debug"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/rewrite"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	// the order in which a query meets them, as upstream's plugin.cfg has it
	dnsserver.Directives = []string{
		"bind", "reload", "debug", "ready", "health", "prometheus", "errors", "log", "loadbalance", "cache",
		"rewrite", "template", "hosts", "kubernetes", "loop", "forward",
	}
	coremain.Run()
}
