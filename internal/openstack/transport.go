package openstack

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

var errForeignHost = errors.New("the request would leave the host it was made for")

// wire is the RoundTripper of one service of one region. A token given to it
// never leaves the scheme and host it was made for, and every call holds a slot
// until its answer is read.
type wire struct {
	clouds *Clouds
	region string
	origin url.URL // scheme and host only
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	release, err := w.admit(req)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	resp, err := w.clouds.base.RoundTrip(req)
	if err != nil {
		release()
		return nil, err
	}
	note(req.Context(), resp.Header)
	resp.Body = &body{ReadCloser: resp.Body, release: release}
	return resp, nil
}

func (w *wire) admit(req *http.Request) (release func(), err error) {
	if req.URL.Scheme != w.origin.Scheme || !strings.EqualFold(req.URL.Host, w.origin.Host) {
		return nil, errForeignHost
	}
	return w.clouds.slots.acquire(req.Context(), w.region)
}

// body is an answer's body whose Close gives the slot back.
type body struct {
	io.ReadCloser
	once    sync.Once
	release func()
}

func (b *body) Close() error {
	var err error
	b.once.Do(func() {
		err = b.ReadCloser.Close()
		b.release()
	})
	return err
}
