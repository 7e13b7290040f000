package runtimes

import (
	"slices"

	"lambent"
)

// What works at exec alone. A function that sets one of these has its runtime
// booted at each start, which takes longer than a parked one: so only what really
// cannot be given later is here. TestFixedEnv has the proof of the less obvious.
var fixedEnv = map[string][]string{
	// The system's: its loader, its allocator, and Lambda's own, which names a script
	// that is to start the runtime.
	"": {"LD_*", "GLIBC_TUNABLES", "MALLOC_*", "AWS_LAMBDA_EXEC_WRAPPER"},

	// What the interpreter reads while it initialises itself. An agent that is parked
	// is isolated from all of PYTHON*. Not here: PYTHONPATH, which the agent honours;
	// PYTHONDONTWRITEBYTECODE, which is the rule; what is about the site of a user and
	// about interactive use; and whatever only looks like one of Python's.
	"python": {
		"PYTHONASYNCIODEBUG", "PYTHONBREAKPOINT", "PYTHONCOERCECLOCALE", "PYTHONDEBUG", "PYTHONDEVMODE", "PYTHONFAULTHANDLER",
		"PYTHONHASHSEED", "PYTHONHOME", "PYTHONINSPECT", "PYTHONINTMAXSTRDIGITS", "PYTHONIOENCODING", "PYTHONMALLOC",
		"PYTHONMALLOCSTATS", "PYTHONNODEBUGRANGES", "PYTHONOPTIMIZE", "PYTHONPERFSUPPORT", "PYTHONPLATLIBDIR",
		"PYTHONPROFILEIMPORTTIME", "PYTHONPYCACHEPREFIX", "PYTHONSAFEPATH", "PYTHONTRACEMALLOC", "PYTHONUNBUFFERED", "PYTHONUTF8",
		"PYTHONVERBOSE", "PYTHONWARNDEFAULTENCODING", "PYTHONWARNINGS", "PYTHON_CONTEXT_AWARE_WARNINGS", "PYTHON_CPU_COUNT",
		"PYTHON_DISABLE_REMOTE_DEBUG", "PYTHON_FROZEN_MODULES", "PYTHON_GIL", "PYTHON_JIT", "PYTHON_PERF_JIT_SUPPORT",
		"PYTHON_PRESITE", "PYTHON_THREAD_INHERIT_CONTEXT", "PYTHON_TLBC",
	},

	// What node, libuv, ICU and OpenSSL read before the first line of JavaScript, or
	// what an agent has made them read by the time that it is parked (the size of the
	// thread pool). Not here: NODE_PATH, which the agent honours; TZ, which node
	// watches; NODE_TLS_REJECT_UNAUTHORIZED, SSL_CERT_FILE and the colours, which are
	// read when they are needed.
	"nodejs": {
		"NODE_OPTIONS", "NODE_EXTRA_CA_CERTS", "NODE_USE_SYSTEM_CA", "NODE_USE_ENV_PROXY", "NODE_ICU_DATA", "NODE_V8_COVERAGE",
		"NODE_DEBUG", "NODE_DEBUG_NATIVE", "NODE_NO_WARNINGS", "NODE_PENDING_DEPRECATION", "NODE_REDIRECT_WARNINGS",
		"NODE_PRESERVE_SYMLINKS", "NODE_PRESERVE_SYMLINKS_MAIN", "NODE_COMPILE_CACHE", "NODE_COMPILE_CACHE_PORTABLE",
		"NODE_DISABLE_COMPILE_CACHE", "OPENSSL_CONF", "UV_THREADPOOL_SIZE", "UV_USE_IO_URING", "LANG", "LC_ALL", "LC_MESSAGES",
	},
}

// withFixedEnv completes a runtime with what a function can only be given at exec,
// and with how the agent is booted then.
func (i interpreter) withFixedEnv(r lambent.Runtime) lambent.Runtime {
	r.FixedEnv = slices.Concat(fixedEnv[""], fixedEnv[i.family])
	// Isolated (-I), Python would read none of them. The agent takes what that lets
	// in beside them, its own directory, off the path of imports again.
	r.LateBoot = slices.DeleteFunc(slices.Clone(r.Boot), func(arg string) bool { return arg == "-I" })
	return r
}
