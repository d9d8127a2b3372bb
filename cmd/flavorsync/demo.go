package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
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
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo(cmd.Context(), cmd.OutOrStdout(), flags)
		},
	}
	cmd.Flags().StringVar(&flags.listen, "listen", "127.0.0.1:8080", "where Flavorsync answers, `host:port`")
	cmd.Flags().StringVar(&flags.cloudListen, "cloud-listen", "127.0.0.1:5000", "where the simulated federation answers, `host:port`")
	cmd.Flags().StringVar(&flags.dir, "data", "", "the `directory` of the database; without one, a temporary one")
	cmd.Flags().BoolVar(&flags.allowRemote, "allow-remote", false, "listen on other than loopback addresses, too: every password is public")
	return cmd
}

// demo runs until ctx ends.
func demo(ctx context.Context, out io.Writer, flags demoFlags) (err error) {
	for _, address := range []string{flags.listen, flags.cloudListen} {
		if err := demoAddress(address, flags.allowRemote); err != nil {
			return err
		}
	}
	dir := flags.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "flavorsync-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	log := jsonLog(out)
	cloud := demoCloud()
	base, stopCloud, err := cloud.Start(flags.cloudListen)
	if err != nil {
		return fmt.Errorf("--cloud-listen: %w", err)
	}
	defer stopCloud()
	listener, err := net.Listen("tcp", flags.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	defer func() { _ = listener.Close() }()
	err = demoText.Execute(out, map[string]string{
		"API": "http://" + listener.Addr().String(), "Cloud": base, "Keystone": cloud.KeystoneURL(), "Data": dir,
	})
	if err != nil {
		return err
	}
	cfg, err := demoConfig(cloud, dir)
	if err != nil {
		return err
	}
	db, err := demoStore(ctx, cfg, cloud, log)
	if err != nil {
		return err
	}
	s, err := newService(cfg, db, log, true)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	defer func() { err = errors.Join(err, s.close()) }()
	return s.serve(ctx, cfg, listener)
}

// demoAddress refuses to show public passwords to the world by accident.
func demoAddress(address string, allowRemote bool) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is no host:port: %w", address, err)
	}
	ip := net.ParseIP(host)
	if allowRemote || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("the demo listens on loopback addresses only, not on %q: its passwords are public (--allow-remote if you mean it)", address)
}

var demoRegions = []string{"Spain2", "Trento", "Lannion2"}

// demoCloud is the federation as three operators have left it: each with sizes
// of its own under names of its own.
func demoCloud() *simstack.Stack {
	cloud := simstack.New(simstack.Options{Regions: demoRegions})
	size := func(id, name string, vcpus, ram, disk int) flavor.NovaFlavor {
		return flavor.NovaFlavor{ID: id, IsPublic: true, Spec: flavor.Spec{Name: name, VCPUs: vcpus, RAM: ram, Disk: disk, RxTxFactor: 1}}
	}
	for _, region := range demoRegions {
		cloud.AddFlavor(region, size("1", "m1.tiny", 1, 512, 1))
	}
	cloud.AddFlavor("Spain2", size("2", "m1.small", 1, 2048, 20))
	cloud.AddFlavor("Trento", size("2", "m1.small", 2, 4096, 10))
	insane := size("567b200e-0000-4000-8000-000000000640", "insane", 64, 1232896, 12624)
	insane.ExtraSpecs = map[string]string{"hw:mem_page_size": "large"}
	cloud.AddFlavor("Spain2", insane)
	return cloud
}

// demoConfig is the configuration of the demo: the simulated KeyRock, and the
// accounts of the contract with hashes made now.
func demoConfig(cloud *simstack.Stack, dir string) (*config.Config, error) {
	cfg := config.Default()
	cfg.Database.DSN = flavor.Secret(filepath.Join(dir, "demo.db"))
	cfg.CredentialsKeyset = filepath.Join(dir, "keyset.json")
	cfg.KeystoneURL = cloud.KeystoneURL()
	cfg.Outgoing.AllowHTTP = true
	accounts := identity.ProviderConfig{Type: identity.TypeAccounts}
	for _, a := range []identity.Account{
		{Name: "manager", Roles: []string{identity.RoleManager}},
		{Name: "spain2", Regions: []string{"Spain2"}},
		{Name: "trento", Regions: []string{"Trento"}},
		{Name: "lannion2", Regions: []string{"Lannion2"}},
	} {
		hash, err := bcrypt.GenerateFromPassword([]byte(a.Name+"-secret"), bcrypt.DefaultCost)
		if err != nil {
			return nil, err
		}
		a.PasswordHash = flavor.Secret(hash)
		accounts.Users = append(accounts.Users, a)
	}
	cfg.Identity = []identity.ProviderConfig{{Type: identity.TypeKeyRock, URL: cloud.KeyRockURL()}, accounts}
	return &cfg, nil
}

// demoStore opens the demo's database, marks it, and registers the regions.
func demoStore(ctx context.Context, cfg *config.Config, cloud *simstack.Stack, log *slog.Logger) (*store.Store, error) {
	db, err := openStore(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	if err := db.MarkDemo(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	err = db.Write(ctx, func(tx *store.Tx) error {
		for _, name := range demoRegions {
			r := flavor.Region{
				Name: name, KeystoneURL: cloud.KeystoneURL(), Username: "operator", Password: "operator-secret",
				Tenant: "operators", UserDomain: "Default", ProjectDomain: "Default",
				Status: flavor.RegionStatus{State: flavor.RegionUnknown},
			}
			switch _, err := tx.Region(name); {
			case flavor.CodeOf(err) == flavor.CodeNotFound:
				err = tx.InsertRegion(r)
				if err != nil {
					return err
				}
			case err != nil:
				return err
			default:
				// Kept from the last time, when the cloud may have had another address.
				if err := tx.UpdateRegion(r); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// errDemoDatabase is what serve says of a demo's database.
var errDemoDatabase = errors.New("this database belongs to a demo, whose passwords are public: serve does not take it; configure another database.dsn")

var demoText = template.Must(template.New("demo").Parse(strings.TrimLeft(`
Flavorsync         {{.API}}        (database in {{.Data}})
Keystone           {{.Keystone}}        Novas of Spain2, Trento and Lannion2 in its catalog
KeyRock            {{.Cloud}}/idm/user

IdM tokens         manager, owner-spain2, owner-trento, owner-lannion2, user
Basic accounts     manager:manager-secret, spain2:spain2-secret, trento:trento-secret, lannion2:lannion2-secret
Keystone users     operator:operator-secret (project operators), member:member-secret (project demo)

Paste these. The owner of Spain2 creates a flavor there and publishes it:

  curl -s -X POST {{.API}}/v1/flavors -H 'X-Auth-Token: owner-spain2' -H 'Content-Type: application/json' \
    -d '{"flavor": {"id": "0c0ffee0-0000-4000-8000-000000000001", "name": "demo.medium", "vcpus": 2, "ram": 4096, "disk": 40, "public": true}}'

The owner of Trento sees it and installs it there with one call:

  curl -s '{{.API}}/v1/flavors?public=true' -H 'X-Auth-Token: owner-trento'
  curl -s -X PUT {{.API}}/v1/flavors/0c0ffee0-0000-4000-8000-000000000001 -H 'X-Auth-Token: owner-trento' \
    -H 'Content-Type: application/json' -d '{"flavor": {"nodes": ["Trento"]}}'

Both Novas have it, as an operator's own Keystone token shows:

  TOKEN=$(curl -s -o /dev/null -D - -H 'Content-Type: application/json' {{.Keystone}}/auth/tokens -d '{"auth": {
    "identity": {"methods": ["password"], "password": {"user": {"name": "operator", "password": "operator-secret", "domain": {"id": "default"}}}},
    "scope": {"project": {"name": "operators", "domain": {"id": "default"}}}}}' | tr -d '\r' | sed -n 's/^X-Subject-Token: //Ip')
  curl -s {{.Cloud}}/compute/Spain2/v2.1/flavors/0c0ffee0-0000-4000-8000-000000000001 -H "X-Auth-Token: $TOKEN"
  curl -s {{.Cloud}}/compute/Trento/v2.1/flavors/0c0ffee0-0000-4000-8000-000000000001 -H "X-Auth-Token: $TOKEN"
  curl -s {{.API}}/v1/regions/Trento/flavors -H 'X-Auth-Token: owner-trento' -H "X-Auth-Token-KeyStone: $TOKEN"

A manager promotes it; everyone sees what is recommended, in XML too:

  curl -s -X PUT {{.API}}/v1/flavors/0c0ffee0-0000-4000-8000-000000000001 -u manager:manager-secret \
    -H 'Content-Type: application/json' -d '{"flavor": {"promoted": true}}'
  curl -s {{.API}}/v1/promotedflavors -H 'X-Auth-Token: user' -H 'Accept: application/xml'

Stop it with Ctrl-C.

`, "\n")))
