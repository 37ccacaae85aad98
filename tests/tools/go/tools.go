//go:build tools

// Package tools pins the programs that the tests drive and that Go's module proxy delivers.
package tools

import _ "sigs.k8s.io/cri-tools/cmd/crictl"
