package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/template"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"

	"github.com/flavorsync/flavorsync/internal/config"
	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/identity"
	"github.com/flavorsync/flavorsync/internal/simstack"
	"github.com/flavorsync/flavorsync/internal/store"
)

type demoFlags struct {
	listen, cloudListen, dir string
	allowRemote              bool
}

func demoCommand() *cobra.Command {
	var flags demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the whole product on this machine, with a simulated federation",
		Long: `Run the whole product on this machine: Flavorsync, and a simulated federation
with a Keystone, a KeyRock, the Novas of Spain2, Trento and Lannion2, and a
UCloud that reads the promoted flavors as products. It
prints where they are, who may come in and commands to paste, then its log.

The clouds are new at every start. With --data the catalogue is kept, and its
flavors are put back where they were; private flavors are gone.`,
		Example: `  flavorsync demo
  flavorsync demo --listen 127.0.0.1:9090 --cloud-listen 127.0.0.1:0 --data demo-data`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo(cmd.Context(), cmd.OutOrStdout(), flags)
		},
	}
	cmd.Flags().StringVar(&flags.listen, "listen", "127.0.0.1:8080", "where Flavorsync answers, `host:port`; port 0 is a free one")
	cmd.Flags().StringVar(&flags.cloudListen, "cloud-listen", "127.0.0.1:5000", "where the simulated federation answers, `host:port`")
	cmd.Flags().StringVar(&flags.dir, "data", "", "the `directory` of the database, kept; without one, a temporary one")
	cmd.Flags().BoolVar(&flags.allowRemote, "allow-remote", false, "listen on other than loopback addresses, too: whoever reaches them may do everything")
	return cmd
}

// demo runs until ctx ends.
func demo(ctx context.Context, out io.Writer, flags demoFlags) (err error) {
	if err := errors.Join(
		demoAddress("--listen", flags.listen, flags.allowRemote),
		demoAddress("--cloud-listen", flags.cloudListen, flags.allowRemote),
	); err != nil {
		return err
	}
	logged := &held{to: out}
	defer logged.release()
	log := jsonLog(logged)

	core, err := newDemoCore()
	if err != nil {
		return err
	}
	cloud, err := startCloud(flags.cloudListen, core) //nolint:contextcheck // it outlives ctx: requests that run need it
	if err != nil {
		return err
	}
	defer cloud.stop()
	listener, err := listen(ctx, "--listen", flags.listen)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	core.serves("http://" + reachable(listener.Addr().String()))
	dir, remove, err := demoDirectory(flags.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	cfg, err := demoConfig(cloud, dir)
	if err != nil {
		return err
	}
	s, err := newService(ctx, cfg, log, demos, both)
	if err != nil {
		return unlessStopped(ctx, log, err)
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	if err := cloud.join(ctx, s.db); err != nil {
		return unlessStopped(ctx, log, err)
	}
	core.catchUp(ctx, s)
	err = demoText.Execute(out, map[string]any{
		"UCloud": cloud.core.url, "API": "http://" + reachable(listener.Addr().String()), "Cloud": cloud.base, "Keystone": cloud.keystone, "KeyRock": cloud.keyrock,
		"Data": dir, "Kept": flags.dir != "",
	})
	if err != nil {
		return err
	}
	logged.release()
	return s.serve(ctx, cfg, listener, nil)
}

// held keeps what is logged until it is released: what the demo has to say to
// people comes first.
type held struct {
	mu       sync.Mutex
	to       io.Writer
	kept     bytes.Buffer
	released bool
}

func (h *held) Write(line []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.released {
		return h.to.Write(line)
	}
	return h.kept.Write(line)
}

func (h *held) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.released = true
	_, _ = h.kept.WriteTo(h.to) // there is nobody to tell that telling failed
}

// demoAddress refuses to show public passwords to the world by accident.
func demoAddress(flag, address string, allowRemote bool) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s: %q is not host:port, such as 127.0.0.1:8080", flag, address)
	}
	ip := net.ParseIP(host)
	if allowRemote || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%s: the demo listens on loopback addresses only, not on %q: its passwords are public (--allow-remote if you mean it)", flag, address)
}

// reachable is an address to call for one that is listened at.
func reachable(address string) string {
	if at, err := netip.ParseAddrPort(address); err == nil && at.Addr().IsUnspecified() {
		return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port()).String()
	}
	return address
}

// demoDirectory is the directory for the database; a temporary one goes with
// remove.
func demoDirectory(wanted string) (dir string, remove func() error, err error) {
	if wanted != "" {
		if err := os.MkdirAll(wanted, 0o700); err != nil {
			return "", nil, fmt.Errorf("--data: %w", err)
		}
		return wanted, func() error { return nil }, nil
	}
	if dir, err = os.MkdirTemp("", "flavorsync-demo-"); err != nil {
		return "", nil, err
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

var demoRegions = []string{"Spain2", "Trento", "Lannion2"}

// demoCloud is the running simulated federation.
type demoCloud struct {
	*simstack.Stack
	address                 netip.Addr // to call
	base, keystone, keyrock string
	core                    *demoCore
	stop                    func()
}

func startCloud(address string, core *demoCore) (*demoCloud, error) {
	stack := simstack.New(simstack.Options{Regions: demoRegions, Beside: map[string]http.Handler{"ucloud": core}})
	base, stop, err := stack.Start(address)
	if err != nil {
		return nil, listenError("--cloud-listen", address, err)
	}
	listening := strings.TrimPrefix(base, "http://")
	at, err := netip.ParseAddrPort(reachable(listening))
	if err != nil {
		stop()
		return nil, fmt.Errorf("--cloud-listen: %w", err)
	}
	base = "http://" + at.String()
	stack.SetBaseURL(base)
	core.url = base + "/ucloud"
	cloud := &demoCloud{stack, at.Addr().WithZone(""), base, stack.KeystoneURL(), stack.KeyRockURL(), core, stop}
	if at.String() != listening {
		// Each caller of the catalog reaches this machine by a name of its own.
		stack.SetBaseURL("")
	}
	return cloud, nil
}

// join registers the regions in db, and fills them: with what the catalogue of
// the last time says they had, and with what their operators always had.
func (c *demoCloud) join(ctx context.Context, db *store.Store) error {
	err := db.Write(ctx, func(tx *store.Tx) error {
		for _, name := range demoRegions {
			r := flavor.Region{
				Name: name, KeystoneURL: c.keystone, Username: "operator", Password: "operator-secret",
				Tenant: "operators", UserDomain: "Default", ProjectDomain: "Default",
				Status: flavor.RegionStatus{State: flavor.RegionUnknown},
			}
			// Kept from the last time, when the cloud may have had another address?
			err := tx.UpdateRegion(r)
			if flavor.CodeOf(err) == flavor.CodeNotFound {
				err = tx.InsertRegion(r)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	cat, err := db.Catalogue(ctx)
	if err != nil {
		return err
	}
	for _, i := range cat.Installations {
		if f, ok := cat.ByID(i.FlavorID); ok && slices.Contains(demoRegions, i.Region) {
			c.put(i.Region, flavor.NovaFlavor{ID: i.NodeID, Spec: f.Spec, IsPublic: true})
		}
	}
	size := func(id, name string, vcpus, ram, disk int) flavor.NovaFlavor {
		return flavor.NovaFlavor{ID: id, IsPublic: true, Spec: flavor.Spec{Name: name, VCPUs: vcpus, RAM: ram, Disk: disk, RxTxFactor: 1}}
	}
	for _, region := range demoRegions {
		c.put(region, size("1", "m1.tiny", 1, 512, 1))
	}
	// One name, two sizes: why there is a marketplace.
	c.put("Spain2", size("2", "m1.small", 1, 2048, 20))
	c.put("Trento", size("2", "m1.small", 2, 4096, 10))
	insane := size("567b200e-0000-4000-8000-000000000640", "insane", 64, 1232896, 12624)
	insane.ExtraSpecs = map[string]string{"hw:mem_page_size": "large"}
	c.put("Spain2", insane)
	return nil
}

// put gives a region f unless something has its id or name.
func (c *demoCloud) put(region string, f flavor.NovaFlavor) {
	if !slices.ContainsFunc(c.Flavors(region), func(there flavor.NovaFlavor) bool { return there.ID == f.ID || there.Name == f.Name }) {
		c.AddFlavor(region, f)
	}
}

// demoConfig is the configuration of the demo: the simulated KeyRock, and the
// accounts of the contract. Their hashes are cheap: the passwords are public.
func demoConfig(cloud *demoCloud, dir string) (*config.Config, error) {
	cfg := config.Default()
	// Other names than the defaults of serve: nobody shares a file by accident.
	cfg.Database.DSN = flavor.Secret(filepath.Join(dir, "demo.db"))
	cfg.CredentialsKeyset = filepath.Join(dir, "demo-keyset.json")
	cfg.KeystoneURL = cloud.keystone
	cfg.Outgoing.AllowHTTP = true
	cfg.Outgoing.AllowNetworks = []netip.Prefix{netip.PrefixFrom(cloud.address, cloud.address.BitLen())}
	accounts := identity.ProviderConfig{Type: identity.TypeAccounts}
	for _, a := range []identity.Account{
		{Name: "manager", Roles: []string{identity.RoleManager}},
		{Name: "spain2", Regions: []string{"Spain2"}},
		{Name: "trento", Regions: []string{"Trento"}},
		{Name: "lannion2", Regions: []string{"Lannion2"}},
	} {
		hash, err := bcrypt.GenerateFromPassword([]byte(a.Name+"-secret"), bcrypt.MinCost)
		if err != nil {
			return nil, err
		}
		a.PasswordHash = flavor.Secret(hash)
		accounts.Users = append(accounts.Users, a)
	}
	cfg.UCloud.ProviderID, cfg.UCloud.PublicKey = cloud.core.Provider(), cloud.core.PublicKey()
	cfg.UCloud.CoreURL, cfg.UCloud.RefreshToken = cloud.core.url, flavor.Secret(cloud.core.RefreshToken())
	cfg.GLUE2.Sites = demoSites(cloud.keystone)
	cfg.Identity = []identity.ProviderConfig{{Type: identity.TypeKeyRock, URL: cloud.keyrock}, accounts}
	return &cfg, nil
}

var demoText = template.Must(template.New("demo").Parse(strings.TrimLeft(`
Flavorsync         {{.API}}        (database in {{.Data}}{{if not .Kept}}, removed at the end{{end}})
Keystone           {{.Keystone}}        Novas of Spain2, Trento and Lannion2 in its catalog
KeyRock            {{.KeyRock}}
UCloud's Core      {{.UCloud}}        this is its provider aau; /_sim/token signs in as it, /_sim/products is what its users see

IdM tokens         manager, owner-spain2, owner-trento, owner-lannion2, user
Basic accounts     manager:manager-secret, spain2:spain2-secret, trento:trento-secret, lannion2:lannion2-secret
Keystone users     operator:operator-secret (project operators), member:member-secret (project demo)

Paste these. The owner of Spain2 creates a flavor there and publishes it:

  curl -sw '\n' -X POST {{.API}}/v1/flavors -H 'X-Auth-Token: owner-spain2' -H 'Content-Type: application/json' \
    -d '{"flavor": {"id": "0c0ffee0-0000-4000-8000-000000000001", "name": "demo.medium", "vcpus": 2, "ram": 4096, "disk": 40, "public": true}}'

The owner of Trento sees it and installs it there with one call:

  curl -sw '\n' '{{.API}}/v1/flavors?public=true' -H 'X-Auth-Token: owner-trento'
  curl -sw '\n' -X PUT {{.API}}/v1/flavors/0c0ffee0-0000-4000-8000-000000000001 -H 'X-Auth-Token: owner-trento' \
    -H 'Content-Type: application/json' -d '{"flavor": {"nodes": ["Trento"]}}'

Both Novas have it, as an operator's own Keystone token shows:

  TOKEN=$(curl -s -o /dev/null -D - -H 'Content-Type: application/json' {{.Keystone}}/auth/tokens -d '{"auth": {
    "identity": {"methods": ["password"], "password": {"user": {"name": "operator", "password": "operator-secret", "domain": {"id": "default"}}}},
    "scope": {"project": {"name": "operators", "domain": {"id": "default"}}}}}' | tr -d '\r' | awk 'tolower($1) == "x-subject-token:" {print $2}')
  curl -sw '\n' {{.Cloud}}/compute/Spain2/v2.1/flavors/0c0ffee0-0000-4000-8000-000000000001 -H "X-Auth-Token: $TOKEN"
  curl -sw '\n' {{.Cloud}}/compute/Trento/v2.1/flavors/0c0ffee0-0000-4000-8000-000000000001 -H "X-Auth-Token: $TOKEN"
  curl -sw '\n' {{.API}}/v1/regions/Trento/flavors -H 'X-Auth-Token: owner-trento' -H "X-Auth-Token-KeyStone: $TOKEN"

A manager promotes it; everyone sees what is recommended, in XML too:

  curl -sw '\n' -X PUT {{.API}}/v1/flavors/0c0ffee0-0000-4000-8000-000000000001 -u manager:manager-secret \
    -H 'Content-Type: application/json' -d '{"flavor": {"promoted": true}}'
  curl -sw '\n' {{.API}}/v1/promotedflavors -H 'X-Auth-Token: user' -H 'Accept: application/xml'

Stop it with Ctrl-C.

`, "\n")))
