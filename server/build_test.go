package server

import (
	"slices"
	"strings"
	"testing"
)

// What builds see of the environment all owners of functions see: no password, and no
// way around the fence, unless the operator says so.
func TestBuildEnv(t *testing.T) {
	env := map[string]string{
		"PIP_INDEX_URL": "https://deploy:s3cret@pypi.corp/simple", "NPM_CONFIG_REGISTRY": "https://npm.corp:8443/", "HTTPS_PROXY": "proxy.corp:3128",
		"AWS_SECRET_ACCESS_KEY": "no", "PIP_FIND_LINKS": "/opt/wheels",
	}
	getenv := func(name string) string { return env[name] }
	if got := buildEnv(getenv); !slices.Equal(got, []string{"NPM_CONFIG_REGISTRY=https://npm.corp:8443/"}) {
		t.Errorf("got %q", got)
	}
	network := buildNetwork(buildEnv(getenv)).String()
	if !strings.Contains(network, "npm.corp:8443") || !strings.Contains(network, "internet") || strings.Contains(network, "proxy") {
		t.Errorf("the network is %s", network)
	}
	env["LAMBENT_BUILD_ENV"] = "HTTPS_PROXY, PIP_INDEX_URL,MISSING"
	if got := buildEnv(getenv); !slices.Contains(got, "HTTPS_PROXY=proxy.corp:3128") || !slices.Contains(got, "PIP_INDEX_URL="+env["PIP_INDEX_URL"]) || len(got) != 3 {
		t.Errorf("got %q", got)
	}
	if network := buildNetwork(buildEnv(getenv)).String(); !strings.Contains(network, "proxy.corp:3128") || !strings.Contains(network, "pypi.corp:443") {
		t.Errorf("the network is %s", network)
	}
}
