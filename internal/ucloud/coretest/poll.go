package coretest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Polled is what a Core knows of a provider once it has asked it.
type Polled struct {
	References []Reference // as the provider lists them
	Visible    []Visible   // what users see: listed, and defined before
	Connected  bool        // users need not connect to it
}

// Visible is a product that users see.
type Visible struct {
	Reference
	Price    int64    // of V1: for each vCPU
	Features []string // such as jobs.vm.enabled, sorted
}

// pollTimeout is Core's own.
const pollTimeout = 5 * time.Second

// Poll asks the provider at baseURL what a Core asks it, with the very headers
// of one: no Accept, no Content-Type.
func (c *Core) Poll(ctx context.Context, baseURL string) (Polled, error) {
	client := &http.Client{Transport: &http.Transport{}, Timeout: pollTimeout}
	defer client.CloseIdleConnections()
	var manifest struct {
		Enabled       *bool           `json:"enabled"`
		ExpireAfterMS json.RawMessage `json:"expireAfterMs"`
	}
	if err := c.get(ctx, client, baseURL, "integration/retrieveManifest", &manifest); err != nil {
		return Polled{}, err
	}
	if manifest.Enabled == nil {
		return Polled{}, errors.New("the manifest does not say enabled")
	}
	var products struct {
		Responses *[]support `json:"responses"`
	}
	if err := c.get(ctx, client, baseURL, "jobs/retrieveProducts", &products); err != nil {
		return Polled{}, err
	}
	if products.Responses == nil {
		return Polled{}, errors.New("the products are not in responses")
	}
	return c.join(*products.Responses, !*manifest.Enabled)
}

// support is what a Core reads of one listed product. A flag is true, false or null.
type support struct {
	Product struct {
		ID       *string `json:"id"`
		Category *string `json:"category"`
		Provider *string `json:"provider"`
	} `json:"product"`
	Docker  map[string]*bool `json:"docker"`
	VM      map[string]*bool `json:"virtualMachine"`
	Natives map[string]*bool `json:"native"`
}

func (s support) features() []string {
	var all []string
	for name, flags := range map[string]map[string]*bool{"docker": s.Docker, "vm": s.VM, "native": s.Natives} {
		for flag, on := range flags {
			if on != nil && *on {
				all = append(all, "jobs."+name+"."+flag)
			}
		}
	}
	slices.Sort(all)
	return all
}

// join drops what is not defined without a word, as a Core does.
func (c *Core) join(listed []support, connected bool) (Polled, error) {
	p := Polled{Connected: connected}
	for i, s := range listed {
		if s.Product.ID == nil || s.Product.Category == nil || s.Product.Provider == nil {
			return Polled{}, fmt.Errorf("responses[%d].product is not id, category and provider", i)
		}
		r := Reference{*s.Product.ID, *s.Product.Category, *s.Product.Provider}
		if slices.Contains(p.References, r) {
			return Polled{}, fmt.Errorf("responses[%d] is there twice", i)
		}
		p.References = append(p.References, r)
		if price, defined := c.price(r); defined {
			p.Visible = append(p.Visible, Visible{r, price, s.features()})
		}
	}
	return p, nil
}

func (c *Core) price(r Reference) (price int64, defined bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.v2[r]; ok {
		return p.Price, p.ProductType == "COMPUTE"
	}
	if versions := c.v1[r]; len(versions) > 0 {
		last := versions[len(versions)-1]
		return last.PricePerUnit, last.ProductType == "COMPUTE"
	}
	return 0, false
}

func (c *Core) get(ctx context.Context, client *http.Client, baseURL, what string, answer any) error {
	token, err := c.Token(nil)
	if err != nil {
		return err
	}
	where := strings.TrimSuffix(baseURL, "/") + "/ucloud/" + c.opts.Provider + "/" + what
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return fmt.Errorf("while asking for %s: %w", what, err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("while asking for %s: %w", what, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return fmt.Errorf("while reading %s: %w", what, err)
	case res.StatusCode < 200 || res.StatusCode > 299:
		return fmt.Errorf("%s was answered with %d", what, res.StatusCode)
	case !strings.HasPrefix(strings.TrimSpace(string(body)), "{"):
		return fmt.Errorf("%s is no object", what)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("while reading %s: %w", what, err)
	}
	return nil
}
