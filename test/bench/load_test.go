package bench_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// request writes an HTTP/1.1 GET once, so that sending it again costs nothing.
func request(address, path string, header http.Header) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\n", path, address)
	_ = header.Write(&b)
	b.WriteString("\r\n")
	return b.Bytes()
}

// rate sends request over so many connections for about d, and is how many were
// answered with 200 in a second.
func rate(b *testing.B, address string, request []byte, connections int, d time.Duration) float64 {
	b.Helper()
	counts := make([]int, connections)
	errs := make([]error, connections)
	begun := time.Now()
	var wg sync.WaitGroup
	for i := range connections {
		wg.Go(func() { counts[i], errs[i] = send(address, request, begun.Add(d)) })
	}
	wg.Wait()
	took := time.Since(begun)
	total := 0
	for i := range connections {
		if errs[i] != nil {
			b.Fatal(errs[i])
		}
		total += counts[i]
	}
	return float64(total) / took.Seconds()
}

// send sends request on one connection until the time is over.
func send(address string, request []byte, until time.Time) (n int, err error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	r := bufio.NewReaderSize(conn, 64<<10)
	for time.Now().Before(until) {
		if _, err := conn.Write(request); err != nil {
			return n, err
		}
		if err := skipAnswer(r); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// skipAnswer reads one answer, which must be a 200 with a Content-Length: a
// client that does more would be the slower half of what is measured.
func skipAnswer(r *bufio.Reader) error { return skipAnswerOf(r, http.StatusOK) }

func skipAnswerOf(r *bufio.Reader, status int) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if code, ok := bytes.CutPrefix(line, []byte("HTTP/1.1 ")); !ok || !bytes.HasPrefix(code, strconv.AppendInt(nil, int64(status), 10)) {
		return fmt.Errorf("answered %q, not %d", line, status)
	}
	length := -1
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == 2 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return fmt.Errorf("an answer without Content-Length")
	}
	_, err = r.Discard(length)
	return err
}

// pacedLatencies is how long each answer took to requests of which so many are
// sent in a second until over is closed, from when each was to be sent: one that
// had to wait for the one before it was late. Each must be a 200.
func pacedLatencies(b *testing.B, address string, request []byte, perSecond int, over <-chan struct{}) []time.Duration {
	b.Helper()
	const callers = 8
	due := make(chan time.Time, 10*perSecond)
	go func() {
		defer close(due)
		next := time.NewTicker(time.Second / time.Duration(perSecond))
		defer next.Stop()
		for at := time.Now(); ; {
			select {
			case <-over:
				return
			case now := <-next.C:
				for ; !at.After(now); at = at.Add(time.Second / time.Duration(perSecond)) {
					due <- at
				}
			}
		}
	}()
	all, errs := make([][]time.Duration, callers), make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		conn := dial(b, address)
		wg.Go(func() {
			defer conn.Close()
			r := bufio.NewReaderSize(conn, 64<<10)
			for at := range due {
				if errs[i] == nil {
					_, errs[i] = conn.Write(request)
				}
				if errs[i] == nil {
					errs[i] = skipAnswer(r)
				}
				all[i] = append(all[i], time.Since(at))
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			b.Fatal(err)
		}
	}
	return slices.Concat(all...)
}

// timed is how long one call took, its body read and thrown away; it must
// succeed.
func timed(b *testing.B, r *http.Request) time.Duration {
	b.Helper()
	begun := time.Now()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	took := time.Since(begun)
	if err != nil || resp.StatusCode >= 300 {
		b.Fatalf("%s %s: %s, %v: %s", r.Method, r.URL.Path, resp.Status, err, body)
	}
	return took
}

func median[T int | float64 | time.Duration](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
