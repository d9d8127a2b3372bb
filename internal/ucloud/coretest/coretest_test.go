package coretest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// caller is a provider that does everything by hand.
type caller struct {
	*Core
	url, token string
}

func newCaller(t *testing.T, opts Options) *caller {
	t.Helper()
	core, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	url, stop, err := core.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	c := &caller{Core: core, url: url}
	var answer struct {
		Responses []struct{ AccessToken string }
	}
	if status := c.call(t, http.MethodPost, "/auth/providers/refresh", `{"items":[{"refreshToken":"`+core.RefreshToken()+`"}]}`, &answer); status != http.StatusOK {
		t.Fatalf("refreshing: %d", status)
	}
	c.token = answer.Responses[0].AccessToken
	return c
}

func (c *caller) call(t *testing.T, method, path, body string, answer any) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && answer != nil {
		err = json.Unmarshal(text, answer)
	}
	if err != nil {
		t.Fatalf("%s %s: %s: %v", method, path, text, err)
	}
	return res.StatusCode
}

const (
	itemV2 = `{"type":"compute","category":{"name":"x","provider":"aau","productType":"COMPUTE","accountingUnit":{"name":"DKK","namePlural":"DKK","floatingPoint":true,` +
		`"displayFrequencySuffix":false},"accountingFrequency":"PERIODIC_HOUR","freeToUse":false,"allowSubAllocations":true},"name":"a","productType":"COMPUTE","price":340000,` +
		`"fraction":{"numerator":1,"denominator":1},"hiddenInGrantApplications":true,"cpu":4,"cpuModel":"c"}`
	itemV1 = `{"type":"compute","name":"a","pricePerUnit":5,"category":{"name":"x","provider":"aau"},"unitOfPrice":"CREDITS_PER_HOUR","chargeType":"ABSOLUTE","cpu":4,"cpuModel":"c"}`
)

// A fake that takes what a Core refuses proves nothing.
func TestStrictness(t *testing.T) {
	type change struct {
		old, new string
		status   int
	}
	common := []change{
		{`"type":"compute"`, `"type":"computer"`, 400},
		{`"name":"a",`, ``, 400},
		{`"name":"a",`, `"name":"",`, 400},
		{`"name":"a",`, `"name":"a\nb",`, 400},
		{`"provider":"aau"`, `"provider":"sdu"`, 403},
		{`"cpu":4`, `"cpu":-4`, 400},
		{`"cpu":4`, `"cpu":"4"`, 400},
		{`"cpuModel":"c"`, `"cpuModel":"` + strings.Repeat("c", 129) + `"`, 400},
		{`"cpu":4`, `"cpu":null`, 200},
		{`"cpu":4`, `"cpu":4,"unknown":[]`, 200},
	}
	for name, c := range map[string]struct {
		opts       Options
		path, item string
		changes    []change
	}{
		"V2": {Options{}, "/api/products/v2", itemV2, append([]change{
			{`"price":340000`, `"price":-1`, 400}, {`"price":340000`, `"price":0.34`, 400}, {`"price":340000`, `"price":1e3`, 400}, {`"price":340000,`, ``, 400},
			{`"PERIODIC_HOUR"`, `"HOURLY"`, 400}, {`,"allowSubAllocations":true`, ``, 400}, {`,"freeToUse":false`, ``, 400},
			{`,"displayFrequencySuffix":false`, ``, 400}, {`"floatingPoint":true`, `"floatingPoint":1`, 400},
			{`"productType":"COMPUTE","accountingUnit"`, `"accountingUnit"`, 400}, {`"productType":"COMPUTE","price"`, `"price"`, 400},
			{`"productType":"COMPUTE","price"`, `"productType":"STORAGE","price"`, 400},
		}, common...)},
		"V1": {Options{Generation: Classic}, "/api/products", itemV1, append([]change{
			{`"pricePerUnit":5`, `"pricePerUnit":-5`, 400}, {`"pricePerUnit":5`, `"pricePerUnit":0.5`, 400}, {`"pricePerUnit":5,`, ``, 400},
			{`"CREDITS_PER_HOUR"`, `"DKK"`, 400}, {`"ABSOLUTE"`, `"DIFFERENTIAL_QUOTA"`, 400}, {`"CREDITS_PER_HOUR"`, `"UNITS_PER_HOUR"`, 400},
		}, common...)},
	} {
		w := newCaller(t, c.opts)
		create := func(items ...string) int {
			return w.call(t, http.MethodPost, c.path, `{"items":[`+strings.Join(items, ",")+`]}`, nil)
		}
		for _, change := range c.changes {
			item := strings.Replace(c.item, change.old, change.new, 1)
			if got := create(item); got != change.status || item == c.item {
				t.Errorf("%s: %s in place of %s: %d", name, change.new, change.old, got)
			}
		}
		if got := create(); got != 400 {
			t.Errorf("%s: no items: %d", name, got)
		}
		if got := create(c.item, c.item); got != 400 {
			t.Errorf("%s: the same twice: %d", name, got)
		}
		many := make([]string, 1001)
		for i := range many {
			many[i] = strings.Replace(c.item, `"name":"a"`, fmt.Sprintf(`"name":"a%d"`, i), 1)
		}
		if got := create(many...); got != 400 {
			t.Errorf("%s: 1001 items: %d", name, got)
		}
		if got := create(many[1:]...); got != 200 {
			t.Errorf("%s: 1000 items: %d", name, got)
		}
		if got := w.call(t, http.MethodDelete, c.path, "{}", nil); got != 404 {
			t.Errorf("%s: a product can be deleted: %d", name, got)
		}
		other := map[string]string{"V1": "/api/products/v2/browse", "V2": "/api/products/browse"}[name]
		if got := w.call(t, http.MethodGet, other, "", nil); got != 404 {
			t.Errorf("%s answers at %s: %d", name, other, got)
		}
	}
}

// Who is no provider creates nothing.
func TestCallers(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	w := newCaller(t, Options{Now: func() time.Time { return now }})
	good := w.token
	create := func() int { return w.call(t, http.MethodPost, "/api/products/v2", `{"items":[`+itemV2+`]}`, nil) }
	if got := create(); got != 200 {
		t.Errorf("the provider: %d", got)
	}
	forged, err := w.Forged()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range forged {
		if strings.Contains(s.Name, "provider's own") {
			continue // which is the one thing that it is for
		}
		if w.token = s.Token; strings.Contains(w.token, "\n") {
			continue
		}
		if got := create(); got != 401 && got != 403 {
			t.Errorf("%s: %d", s.Name, got)
		}
	}
	w.token = good
	w.SetNow(func() time.Time { return now.Add(10 * time.Minute) })
	if got := create(); got != 401 {
		t.Errorf("an old token: %d", got)
	}
	w.SetNow(func() time.Time { return now })
	w.RevokeTokens()
	if got := create(); got != 401 {
		t.Errorf("a revoked token: %d", got)
	}
	refresh := func(token string) int {
		return w.call(t, http.MethodPost, "/auth/providers/refresh", `{"items":[{"refreshToken":"`+token+`"}]}`, nil)
	}
	old := w.RefreshToken()
	w.RenewRefreshToken()
	if a, b, c := refresh(old), refresh("x"), refresh(w.RefreshToken()); a != 401 || b != 401 || c != 200 {
		t.Errorf("refresh tokens: renewed %d, unknown %d, good %d", a, b, c)
	}
}

// What a Core forgets, ignores and keeps.
func TestUpsert(t *testing.T) {
	w := newCaller(t, Options{})
	create := func(item string) {
		if got := w.call(t, http.MethodPost, "/api/products/v2", `{"items":[`+item+`]}`, nil); got != 200 {
			t.Fatalf("%s: %d", item, got)
		}
	}
	create(itemV2)
	create(strings.NewReplacer(`"price":340000`, `"price":1`, `"HOUR`, `"DAY`, "PERIODIC_HOUR", "PERIODIC_DAY", `"freeToUse":false`, `"freeToUse":true`,
		`"allowSubAllocations":true`, `"allowSubAllocations":false`, `"DKK"`, `"EUR"`).Replace(itemV2))
	all := w.ProductsV2()
	if len(all) != 1 {
		t.Fatalf("%d products", len(all))
	}
	p := all[0]
	c := p.Category
	if p.Price != 1 || p.Hidden || c.AccountingFrequency != "PERIODIC_HOUR" || c.FreeToUse || c.AllowSubAllocations || c.AccountingUnit.Name != "DKK" {
		t.Errorf("the product is %+v", p)
	}

	v := newCaller(t, Options{Generation: Classic})
	for _, price := range []string{"5", "5", "6"} {
		v.call(t, http.MethodPost, "/api/products", `{"items":[`+strings.Replace(itemV1, `"pricePerUnit":5`, `"pricePerUnit":`+price, 1)+`]}`, nil)
	}
	if all := v.ProductsV1(); len(all) != 1 || all[0].Version != 3 || all[0].PricePerUnit != 6 {
		t.Errorf("the versions are %+v", all)
	}
}

// next stands on every full page, so the last can be empty.
func TestBrowse(t *testing.T) {
	w := newCaller(t, Options{MaxPage: 2})
	for _, name := range []string{"b", "a", "d", "c"} {
		w.RegisterV2(ProductV2{Name: name, Category: CategoryV2{Name: "x", Provider: "aau"}})
	}
	w.RegisterV2(ProductV2{Name: "e", Category: CategoryV2{Name: "x", Provider: "sdu"}})
	var pages []string
	next := ""
	for range 10 {
		var p page[ProductV2]
		w.call(t, http.MethodGet, "/api/products/v2/browse?itemsPerPage=1000&filterProvider=aau&next="+next, "", &p)
		names := ""
		for _, item := range p.Items {
			names += item.Name
		}
		pages = append(pages, names)
		if p.Next == nil {
			break
		}
		next = *p.Next
	}
	if got := strings.Join(pages, "|"); got != "ab|cd|" {
		t.Errorf("the pages are %q", got)
	}
}

// A Core sees what a provider answers, and nothing is forgiven.
func TestPoll(t *testing.T) {
	c := newCaller(t, Options{})
	c.RegisterV2(ProductV2{Name: "a", ProductType: "COMPUTE", Price: 5, Category: CategoryV2{Name: "x", Provider: "aau"}},
		ProductV2{Name: "s", ProductType: "STORAGE", Category: CategoryV2{Name: "x", Provider: "aau"}})
	element := func(name string) string {
		return `{"product":{"id":"` + name + `","category":"x","provider":"aau"},"virtualMachine":{"enabled":true,"vnc":null},"docker":{"enabled":false}}`
	}
	for name, w := range map[string]struct {
		products string
		visible  string // "": an error
	}{
		"good":          {`{"responses":[` + element("a") + `,` + element("b") + `,` + element("s") + `]}`, "a [jobs.vm.enabled]"},
		"none":          {`{"responses":[]}`, "none"},
		"items":         {`{"items":[]}`, ""},
		"a list":        {`[]`, ""},
		"no body":       {``, ""},
		"twice":         {`{"responses":[` + element("a") + `,` + element("a") + `]}`, ""},
		"no category":   {`{"responses":[{"product":{"id":"a","provider":"aau"}}]}`, ""},
		"a flag's text": {`{"responses":[` + strings.Replace(element("a"), "true", `"true"`, 1) + `]}`, ""},
	} {
		var headers http.Header
		server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			headers = r.Header
			if strings.HasSuffix(r.URL.Path, "retrieveManifest") {
				io.WriteString(rw, `{"enabled":false,"expireAfterMs":null}`)
				return
			}
			io.WriteString(rw, w.products)
		}))
		got, err := c.Poll(t.Context(), server.URL)
		server.Close()
		text := "none"
		for _, v := range got.Visible {
			text = fmt.Sprint(v.ID, " ", v.Features)
		}
		if (err != nil) != (w.visible == "") || err == nil && text != w.visible {
			t.Errorf("%s: %q, %v", name, text, err)
		}
		if len(headers) != 3 || headers.Get("User-Agent") != "Go-http-client/1.1" || headers.Get("Accept-Encoding") != "gzip" {
			t.Errorf("the headers are %v", headers)
		}
	}
}

// Each fault does what it says, and no more often than ordered.
func TestFaults(t *testing.T) {
	w := newCaller(t, Options{})
	w.RegisterV2(ProductV2{Name: "a", Category: CategoryV2{Name: "x", Provider: "aau"}})
	get := func(ctx context.Context) string {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/api/products/v2/browse", bytes.NewReader(nil))
		if err != nil {
			t.Fatal(err)
		}
		res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			return "broken"
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		switch {
		case err != nil:
			return "cut"
		case !json.Valid(text):
			return fmt.Sprint(res.StatusCode, " no JSON")
		}
		return fmt.Sprint(res.StatusCode, " JSON")
	}
	for kind, want := range map[Kind]string{
		Answer: "418 JSON", HTML: "200 no JSON", Nonsense: "200 JSON", Empty: "200 no JSON", Half: "200 no JSON", Cut: "cut", Lost: "broken", Refuse: "broken",
		Garbage: "broken", Huge: "200 JSON", Elsewhere: "302 no JSON", SamePage: "200 JSON", Serve: "200 JSON",
	} {
		f := Fault{Kind: kind, Path: "/api/products/v2/browse", After: 1, Times: 1}
		if kind == Answer {
			f.Status = http.StatusTeapot
		}
		w.Fault(f)
		if a, b, c := get(t.Context()), get(t.Context()), get(t.Context()); a != "200 JSON" || b != want || c != "200 JSON" {
			t.Errorf("%q: before %s, struck %s, after %s", kind, a, b, c)
		}
	}
	ctx, leave := context.WithCancel(t.Context())
	cancel := w.Fault(Fault{Kind: Hang, Before: leave})
	if got := get(ctx); got != "broken" {
		t.Errorf("hang: %s", got)
	}
	cancel()
	cancel()
	if got := get(t.Context()); got != "200 JSON" {
		t.Errorf("after a hang: %s", got)
	}
}
