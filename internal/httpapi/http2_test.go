package httpapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/identity"
)

// A client that opens requests and takes each back at once ("rapid reset") has no
// more of them running than it may have open, and is sent away when it goes on.
func TestHTTP2RapidReset(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	cert, key := a.issue(t, 1, time.Now().Add(time.Hour))
	put(t, filepath.Join(dir, "tls.crt"), cert)
	put(t, filepath.Join(dir, "tls.key"), key)
	busy := &busy{goOn: make(chan struct{})}
	defer close(busy.goOn)
	e := newEncrypted(t, a, filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), tls.VersionTLS12, func(c *Config) { c.Identity = busy })

	c, err := tls.Dial("tcp", e.address, &tls.Config{RootCAs: a.pool, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(c, c)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	var streams uint32
	first, err := framer.ReadFrame()
	if settings, ok := first.(*http2.SettingsFrame); ok {
		streams, _ = settings.Value(http2.SettingMaxConcurrentStreams)
	}
	if err != nil || streams != 100 {
		t.Errorf("%d streams may be open at once: %v, %v", streams, first, err)
	}

	sentAway := make(chan error, 1)
	go func() {
		for {
			frame, err := framer.ReadFrame()
			if away, ok := frame.(*http2.GoAwayFrame); ok && away.ErrCode == http2.ErrCodeEnhanceYourCalm {
				sentAway <- nil
				return
			}
			if err != nil {
				sentAway <- err
				return
			}
		}
	}()
	var head bytes.Buffer
	encoder := hpack.NewEncoder(&head)
	for id := uint32(1); id < 4000; id += 2 {
		head.Reset()
		for _, f := range []hpack.HeaderField{
			{Name: ":method", Value: "DELETE"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "x"}, {Name: ":path", Value: "/v1/flavors/1"}, {Name: "x-auth-token", Value: "good"},
		} {
			_ = encoder.WriteField(f)
		}
		if framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head.Bytes(), EndHeaders: true, EndStream: true}) != nil ||
			framer.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break // it has sent us away
		}
	}
	if err := <-sentAway; err != nil {
		t.Errorf("2,000 requests taken back on one connection: %v", err)
	}
	if n := busy.running.Load(); n > 100 {
		t.Errorf("%d requests run at once", n)
	}
}

// busy is an identity provider that takes its time, and counts who waits.
type busy struct {
	running atomic.Int64
	goOn    chan struct{}
}

func (b *busy) Authenticate(context.Context, identity.Credential) (flavor.Principal, error) {
	b.running.Add(1)
	<-b.goOn
	return flavor.Principal{}, flavor.Errorf(flavor.CodeUnauthorized, "nobody knows this credential")
}
