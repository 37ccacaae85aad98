//go:build tools

// Package tools names the programs that go.mod pins the versions of.
package tools

import _ "k8s.io/kubernetes/cmd/kubelet"
