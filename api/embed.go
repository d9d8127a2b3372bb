// Package api holds the descriptions of the HTTP API that integrators read and
// machines check: the OpenAPI document and the XML schema. The binary serves
// both, and package apitest checks every recorded request and response against
// them.
package api

import _ "embed"

// OpenAPI is the OpenAPI 3.1 description, YAML in UTF-8, as it is served at
// /openapi.yaml. It must not be modified.
//
//go:embed openapi.yaml
var OpenAPI []byte

// XSD is the XML Schema 1.0 of every XML document that goes in or out, as it is
// served at /flavorsync.xsd. It must not be modified.
//
//go:embed flavorsync.xsd
var XSD []byte
