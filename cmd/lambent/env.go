package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lambent"
	"lambent/client"
	"lambent/server"
)

const envHelp = `Print what other programs read from the environment to use this server.

  eval "$(lambent env aws)"      AWS's command line and SDKs, in this shell
  lambent env aws -o json`

const envAWSHelp = `Print the environment in which AWS's command line and SDKs use this server, with an
access key of the project that is made for it and works for 12 hours (--expires).

  eval "$(lambent env aws)"
  aws s3 ls
  aws events put-events --entries Source=shop,DetailType=order,Detail='{}'
  aws sqs list-queues        (version 1 of the command line: aws --endpoint-url $AWS_ENDPOINT_URL sqs ...)

What may be done with the key is --role's to say. "lambent token list" shows such
keys, "lambent token revoke" ends them, and "lambent token create --access-key"
makes one that lasts. A region is needed by the clients, and means nothing here.`

func envCommand(p *program) *cobra.Command {
	return group(&cobra.Command{Use: "env", Short: "Print the environment for other programs", Long: envHelp}, envAWSCommand(p))
}

func envAWSCommand(p *program) *cobra.Command {
	r := client.TokenRequest{Kind: "access_key", Note: "lambent env aws"}
	var expires time.Duration
	c := &cobra.Command{Use: "aws", Short: "Print the environment for AWS's command line and SDKs", Long: envAWSHelp, Args: args(0)}
	tokenFlags(c, &r, &expires, "admin", 12*time.Hour)
	o := outputFlag(c, "shell", "json", "yaml")
	c.RunE = func(c *cobra.Command, _ []string) error {
		t, err := p.createToken(c, &r, expires)
		if err != nil {
			return err
		}
		vars := [][2]string{
			{"AWS_ACCESS_KEY_ID", t.ID}, {"AWS_SECRET_ACCESS_KEY", t.Secret},
			{"AWS_ENDPOINT_URL", cmp.Or(p.getenv("LAMBENT_URL"), "http://"+server.DefaultListen)},
			{"AWS_REGION", lambent.Region}, {"AWS_DEFAULT_REGION", lambent.Region},
		}
		if o.format != "shell" {
			all := map[string]string{}
			for _, v := range vars {
				all[v[0]] = v[1]
			}
			return o.print(p.out, all, nil, nil)
		}
		for _, v := range vars {
			fmt.Fprintf(p.out, "export %s='%s'\n", v[0], strings.ReplaceAll(v[1], "'", `'\''`))
		}
		_, err = fmt.Fprintln(p.out, "unset AWS_SESSION_TOKEN AWS_PROFILE")
		return err
	}
	return c
}
