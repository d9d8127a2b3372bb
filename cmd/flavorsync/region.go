package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"
)

func regionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "region",
		Short: "Register regions with a running Flavorsync",
		Long: `Register regions with a running Flavorsync: the one at FLAVORSYNC_URL, as whom
FLAVORSYNC_TOKEN, or FLAVORSYNC_USERNAME and FLAVORSYNC_PASSWORD, say.`,
		Example: `  flavorsync region add --os-cloud trento --dry-run
  flavorsync region add --os-cloud trento`,
		Args: cobra.NoArgs, // else a mistyped command is no error
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(regionAdd())
	return cmd
}

func regionAdd() *cobra.Command {
	var cloud, region, name, novaURL string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "add",
		Short: "Register a region with an entry of clouds.yaml",
		Long: `Register a region with an entry of clouds.yaml: its Keystone, its service account
(a password, an application credential or an OIDC access token) and its cacert.
The files are found where the openstack command finds them (OS_CLIENT_CONFIG_FILE,
./clouds.yaml, ~/.config/openstack, /etc/openstack), and secure.yaml beside them.
An entry with what Flavorsync cannot do, such as verify: false, is refused.`,
		Example: `  flavorsync region add --os-cloud trento --dry-run
  flavorsync region add --os-cloud federation --region Trento`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cloud == "" {
				return errors.New("give --os-cloud, or OS_CLOUD: which entry of clouds.yaml it is")
			}
			entry, err := readOSCloud(cloud, os.Getenv)
			if err != nil {
				return err
			}
			entry, region, err := entry.in(region)
			if err != nil {
				return fmt.Errorf("the cloud %s cannot be registered: %w", cloud, err)
			}
			body, err := entry.infrastructure(cmp.Or(name, region))
			if err != nil {
				return fmt.Errorf("the cloud %s cannot be registered: %w", cloud, err)
			}
			if novaURL != "" {
				body["nova_url"] = novaURL
			}
			if dryRun {
				return showRegion(cmd.OutOrStdout(), body)
			}
			c, err := newClient(os.Getenv)
			if err != nil {
				return err
			}
			return addRegion(cmd.Context(), cmd.OutOrStdout(), c, body)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cloud, "os-cloud", os.Getenv("OS_CLOUD"), "the `entry` of clouds.yaml, also OS_CLOUD")
	flags.StringVar(&region, "region", "", "which `region` of it, where it has several")
	flags.StringVar(&name, "name", "", "what it is to be called, where that is not the region's `name` in Keystone's catalog; then give --nova-url too")
	flags.StringVar(&novaURL, "nova-url", "", "the `URL` of its Nova, where that is not what the catalog says")
	flags.BoolVar(&dryRun, "dry-run", false, "show what would be sent, with stars for what is secret")
	return cmd
}

// showRegion prints what addRegion would send.
func showRegion(out io.Writer, body map[string]string) error {
	text, err := json.MarshalIndent(stars(body, "password", "application_credential_secret", "access_token"), "", "  ")
	if err != nil {
		return fmt.Errorf("while writing what would be sent: %w", err)
	}
	_, err = fmt.Fprintf(out, "POST /v1/infrastructures\n%s\n", text)
	return err
}

// addRegion registers the region, and tells how it is.
func addRegion(ctx context.Context, out io.Writer, c *client, body map[string]string) error {
	if err := c.call(ctx, http.MethodPost, "/infrastructures", body, nil); err != nil {
		return err
	}
	name := body["name"]
	var read struct {
		Infrastructure struct {
			Status struct {
				State     string `json:"state"`
				LastError string `json:"last_error"`
			} `json:"status"`
		} `json:"infrastructure"`
	}
	if err := c.call(ctx, http.MethodGet, "/infrastructures/"+url.PathEscape(name), nil, &read); err != nil {
		return fmt.Errorf("%s is registered, but how it is cannot be read: %w", name, err)
	}
	status := read.Infrastructure.Status
	if status.LastError == "" {
		_, err := fmt.Fprintf(out, "%s is registered, and %s: GET /v1/flavors lists its flavors\n", name, status.State)
		return err
	}
	_, err := fmt.Fprintf(out, "%s is registered, but %s: %s\nCorrect it with PUT /v1/infrastructures/%s; GET tells how it is.\n", name, status.State, status.LastError, name)
	return err
}
