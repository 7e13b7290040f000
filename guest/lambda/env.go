package lambda

import (
	"cmp"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"lambent"
)

// environment returns what AWS documents that a function finds
// (docs: "Defined runtime environment variables"), the user's own variables and
// the secrets on top.
func (in *instance) environment() map[string]string {
	u := in.unit
	c := u.Revision.Config
	version := awsVersion(u.Revision.Version)
	env := map[string]string{
		"AWS_REGION":                      lambent.Region,
		"AWS_DEFAULT_REGION":              lambent.Region,
		"AWS_LAMBDA_FUNCTION_NAME":        u.Revision.Name.Function,
		"AWS_LAMBDA_FUNCTION_VERSION":     version,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(c.MemoryMB),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  cmp.Or(u.InitType, lambent.InitOnDemand),
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/" + u.Revision.Name.Function,
		"AWS_LAMBDA_LOG_STREAM_NAME":      fmt.Sprintf("%s/[%s]%s", time.Now().UTC().Format("2006/01/02"), version, in.sandbox.ID()),
		"AWS_LAMBDA_RUNTIME_API":          in.api,
		"AWS_XRAY_CONTEXT_MISSING":        "LOG_ERROR",
		"AWS_XRAY_DAEMON_ADDRESS":         "169.254.79.129:2000",
		"_AWS_XRAY_DAEMON_ADDRESS":        "169.254.79.129",
		"_AWS_XRAY_DAEMON_PORT":           "2000",
		"LAMBDA_TASK_ROOT":                u.Paths.Task,
		"LAMBDA_RUNTIME_DIR":              "/var/runtime",
		"LANG":                            "en_US.UTF-8",
		"TZ":                              ":UTC",
		"PATH":                            "/usr/local/bin:/usr/bin:/bin:/opt/bin",
		"LD_LIBRARY_PATH":                 strings.Join([]string{u.Paths.Task, u.Paths.Task + "/lib", "/opt/lib"}, ":"),
		"PWD":                             u.Paths.Task,
		"TMPDIR":                          u.Paths.Tmp,
		"HOME":                            u.Paths.Tmp,
		"_HANDLER":                        c.Handler,
	}
	if !strings.HasPrefix(c.Runtime, "provided") {
		env["AWS_EXECUTION_ENV"] = "AWS_Lambda_" + c.Runtime
	}
	if in.runtime.BootLate && strings.HasPrefix(c.Runtime, "nodejs") {
		env["NODE_PATH"] = in.nodePath() // otherwise the agent's to say
	}
	if c.Concurrency > 1 {
		env["AWS_LAMBDA_MAX_CONCURRENCY"] = strconv.Itoa(c.Concurrency)
	}
	in.addEndpoint(env)
	for k, v := range in.runtime.Env {
		if _, ours := env[k]; !ours {
			env[k] = v
		}
	}
	maps.Copy(env, c.Env)
	maps.Copy(env, u.Secrets)
	return env
}

// environ turns an environment into what exec takes.
func environ(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	return list
}

// awsVersion is a version label as AWS spells it.
func awsVersion(v string) string {
	if v == lambent.Latest {
		return "$LATEST"
	}
	return v
}
