// helm-values-schema makes values.schema.json from a chart's values.yaml: types from the defaults, descriptions from
// helm-docs' comments ("# -- ..."), and all else from comments of this form, above a key or behind its value:
//
//	# @schema type: [string, null]; enum: [a, b]
//
// Each part is a keyword of JSON Schema with its value in YAML. Three are our own: "required" (the key must stay in the
// values), "item" (the type of a list's items) and "skipProperties" (what lies below the key is not described).
//
//	helm-values-schema values.yaml > values.schema.json
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The newest that Helm 3 before 3.18 understands.
const draft = "http://json-schema.org/draft-07/schema#"

const (
	descriptionMark = "-- "
	schemaMark      = "@schema "
)

type schema = map[string]any

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: helm-values-schema values.yaml")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "error: %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func run(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return err
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return errors.New("the values are no map")
	}
	root := schema{"$schema": draft, "type": "object", "additionalProperties": false}
	if err := describeProperties(root, document.Content[0]); err != nil {
		return err
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(root); err != nil {
		return err
	}
	_, err = os.Stdout.Write(out.Bytes())
	return err
}

func describeProperties(parent schema, mapping *yaml.Node) error {
	properties := schema{}
	required := []string{}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		property, isRequired, err := describe(key, value)
		if err != nil {
			return fmt.Errorf("line %d, %s: %w", key.Line, key.Value, err)
		}
		properties[key.Value] = property
		if isRequired {
			required = append(required, key.Value)
		}
	}
	if len(properties) > 0 {
		parent["properties"] = properties
	}
	if len(required) > 0 {
		parent["required"] = required
	}
	return nil
}

func describe(key, value *yaml.Node) (schema, bool, error) {
	property := schema{}
	if description := describedBy(key.HeadComment); description != "" {
		property["description"] = description
	}
	parts, err := annotations(key, value)
	if err != nil {
		return nil, false, err
	}
	_, isRequired := parts["required"]
	_, isOpaque := parts["skipProperties"]
	_, hasType := parts["type"]
	_, hasOther := parts["allOf"]
	if !hasType && !hasOther {
		kind, err := typeOf(value)
		if err != nil {
			return nil, false, err
		}
		property["type"] = kind
	}
	for keyword, setting := range parts {
		switch keyword {
		case "required", "skipProperties":
		case "item":
			property["items"] = schema{"type": setting}
		case "type":
			property["type"] = typeNames(setting)
		default:
			property[keyword] = setting
		}
	}
	if value.Kind == yaml.MappingNode && !isOpaque {
		if err := describeProperties(property, value); err != nil {
			return nil, false, err
		}
	}
	return property, isRequired, nil
}

// The text after "-- ", through the lines that follow it.
func describedBy(comment string) string {
	lines := []string{}
	isInside := false
	for line := range strings.SplitSeq(comment, "\n") {
		text := strings.TrimSpace(strings.TrimPrefix(line, "#"))
		switch {
		case strings.HasPrefix(text, descriptionMark):
			lines = []string{strings.TrimPrefix(text, descriptionMark)}
			isInside = true
		case text == "" || strings.HasPrefix(text, "@"):
			isInside = false
		case isInside:
			lines = append(lines, text)
		}
	}
	return strings.Join(lines, " ")
}

func annotations(key, value *yaml.Node) (schema, error) {
	all := schema{}
	for _, comment := range []string{key.HeadComment, key.LineComment, value.LineComment} {
		for line := range strings.SplitSeq(comment, "\n") {
			text := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#"))
			rest, isOurs := strings.CutPrefix(text, schemaMark)
			if !isOurs {
				continue
			}
			for part := range strings.SplitSeq(rest, "; ") {
				keyword, setting, hasSetting := strings.Cut(strings.TrimSpace(part), ": ")
				if !hasSetting {
					all[keyword] = true
					continue
				}
				var parsed any
				if err := yaml.Unmarshal([]byte(setting), &parsed); err != nil {
					return nil, fmt.Errorf("%s: %w", keyword, err)
				}
				all[keyword] = parsed
			}
		}
	}
	return all, nil
}

// In YAML, null is no string; as the name of a type it is.
func typeNames(setting any) any {
	list, isList := setting.([]any)
	if !isList {
		return setting
	}
	names := make([]any, len(list))
	for i, name := range list {
		if name == nil {
			name = "null"
		}
		names[i] = name
	}
	return names
}

func typeOf(value *yaml.Node) (string, error) {
	switch value.Kind {
	case yaml.MappingNode:
		return "object", nil
	case yaml.SequenceNode:
		return "array", nil
	case yaml.ScalarNode:
		names := map[string]string{"!!str": "string", "!!int": "integer", "!!float": "number", "!!bool": "boolean"}
		if name, ok := names[value.Tag]; ok {
			return name, nil
		}
	}
	return "", errors.New("no type can be read off this default; add a comment such as \"# @schema type: [string, null]\"")
}
