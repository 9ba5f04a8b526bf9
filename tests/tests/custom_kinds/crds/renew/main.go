// renew writes the CustomResourceDefinitions that other projects publish into the folder above: as they are, without
// descriptions, which are most of them and which the API server does not act on.
//
//	go run .
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// source is a Go module at a version. Go's checksum database vouches for what is in it.
type source struct {
	project, module, version, folder string
	files                            []file
}

type file struct {
	name string
	// Also without the schemas of pod templates, which are most of the rest.
	untyped bool
}

var sources = []source{{
	project: "Argo Rollouts",
	module:  "github.com/argoproj/argo-rollouts",
	version: "v1.10.1", // of the controller: e2e/tools/argo-rollouts
	folder:  "manifests/crds",
	files: []file{
		{name: "rollout-crd.yaml"},
		// Its controller does not start without these. No test makes an object of them.
		{name: "analysis-run-crd.yaml", untyped: true},
		{name: "analysis-template-crd.yaml", untyped: true},
		{name: "cluster-analysis-template-crd.yaml", untyped: true},
		{name: "experiment-crd.yaml", untyped: true},
	},
}, {
	project: "OpenKruise",
	module:  "github.com/openkruise/kruise",
	version: "v1.8.3",
	folder:  "config/crd/bases",
	files: []file{
		{name: "apps.kruise.io_clonesets.yaml"},
		{name: "apps.kruise.io_daemonsets.yaml"},
		{name: "apps.kruise.io_statefulsets.yaml"},
	},
}, {
	project: "Knative Serving",
	module:  "knative.dev/serving",
	version: "v0.51.0",
	folder:  "config/core/300-resources",
	files:   []file{{name: "service.yaml"}},
}}

func main() {
	for _, from := range sources {
		if err := from.renew(); err != nil {
			fmt.Fprintf(os.Stderr, "error: %s: %v\n", from.module, err)
			os.Exit(1)
		}
	}
}

func (s source) renew() error {
	root, err := s.download()
	if err != nil {
		return err
	}
	for _, file := range s.files {
		if err := s.write(root, file); err != nil {
			return fmt.Errorf("%s: %w", file.name, err)
		}
	}
	return nil
}

func (s source) download() (string, error) {
	download := exec.Command("go", "mod", "download", "-json", s.module+"@"+s.version)
	download.Dir = os.TempDir() // outside of a module, so that go.mod and go.sum stay as they are
	output, err := download.Output()
	var result struct{ Dir, Error string }
	if parsed := json.Unmarshal(output, &result); parsed != nil {
		return "", fmt.Errorf("go mod download: %w", err)
	}
	if result.Error != "" {
		return "", fmt.Errorf("go mod download: %s", result.Error)
	}
	return result.Dir, err
}

func (s source) write(root string, file file) error {
	path := s.folder + "/" + file.name
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
	if err != nil {
		return err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return err
	}
	definition := document.Content[0]
	head := &bytes.Buffer{}
	fmt.Fprintf(head, "# From %s, %s %s: %s\n", s.project, s.module, s.version, path)
	fmt.Fprintf(head, "# Licence: Apache-2.0. Changed: descriptions are left out")
	if file.untyped {
		fmt.Fprintf(head, ", and so are the schemas of pod templates")
	}
	fmt.Fprintf(head, ".\n# Made by renew/main.go; see README.md.\n\n")
	strip(definition)
	if file.untyped {
		untype(definition)
	}
	encoder := yaml.NewEncoder(head)
	encoder.SetIndent(2)
	encoder.CompactSeqIndent()
	if err := encoder.Encode(&document); err != nil {
		return err
	}
	name := value(value(definition, "metadata"), "name").Value
	return os.WriteFile(filepath.Join("..", name+".yaml"), head.Bytes(), 0o644)
}

// strip removes descriptions, but no property of that name: that has a map for its schema.
func strip(node *yaml.Node) {
	if node.Kind != yaml.MappingNode {
		for _, item := range node.Content {
			strip(item)
		}
		return
	}
	var kept []*yaml.Node
	for i := 0; i < len(node.Content); i += 2 {
		if key, value := node.Content[i], node.Content[i+1]; key.Value != "description" || value.Kind != yaml.ScalarNode {
			strip(value)
			kept = append(kept, key, value)
		}
	}
	node.Content = kept
}

// untype makes objects of any content of the properties that are pod templates.
func untype(node *yaml.Node) {
	for i, item := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 1 && node.Content[i-1].Value == "template" && isPodTemplate(item) {
			_ = yaml.Unmarshal([]byte("type: object\nx-kubernetes-preserve-unknown-fields: true\n"), item)
			*item = *item.Content[0]
		} else {
			untype(item)
		}
	}
}

func isPodTemplate(schema *yaml.Node) bool {
	spec := value(value(schema, "properties"), "spec")
	return value(value(spec, "properties"), "containers") != nil
}

// value is what a map has at a key, or nil.
func value(node *yaml.Node, key string) *yaml.Node {
	if node == nil || node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i+1]
		}
	}
	return nil
}
