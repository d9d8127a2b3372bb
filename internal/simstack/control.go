package simstack

import "net/http"

func (s *Stack) serveControl(w http.ResponseWriter, r *http.Request, path string) {}
