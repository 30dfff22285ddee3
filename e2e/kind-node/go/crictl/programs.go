//go:build programs

// Package programs names what is built from this module, so that go.mod and go.sum hold what it needs.
package programs

import _ "sigs.k8s.io/cri-tools/cmd/crictl"
