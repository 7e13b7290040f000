package detect

import (
	"io/fs"
	"path"
	"strings"

	"lambent"
)

// CheckHandler reports whether a tree has the file in which a runtime looks for
// a handler. A runtime that is not known here passes. Where layers may bring the
// file, the question makes no sense and should not be asked.
func CheckHandler(fsys fs.FS, runtime, handler string) error {
	var family string
	switch {
	case strings.HasPrefix(runtime, "python"):
		family = Python
	case strings.HasPrefix(runtime, "nodejs"):
		family = Node
	case strings.HasPrefix(runtime, "provided"):
		return checkBootstrap(fsys, runtime)
	default:
		return nil
	}
	files := handlerFiles(family, handler)
	if len(files) == 0 {
		return lambent.Errorf(lambent.Invalid, op, "handler %q: a handler names a file and a function, such as \"app.handler\"", handler)
	}
	if handlerFile(fsys, family, handler) == "" {
		return lambent.Errorf(lambent.Invalid, op, "handler %q: there is no %s", handler, strings.Join(files, " or ")).
			WithHint("lambent deploy --handler FILE.FUNCTION")
	}
	return nil
}

func checkBootstrap(fsys fs.FS, runtime string) error {
	info, err := fs.Stat(fsys, "bootstrap")
	switch {
	case err != nil || !info.Mode().IsRegular():
		return lambent.Errorf(lambent.Invalid, op, "runtime %s runs an executable file called bootstrap, and there is none", runtime)
	case info.Mode()&0o111 == 0:
		return lambent.Errorf(lambent.Invalid, op, "bootstrap is not executable").WithHint("chmod +x bootstrap && lambent deploy")
	}
	return nil
}

// handlerFile returns the file that a handler names, or "" if there is none.
func handlerFile(fsys fs.FS, family, handler string) string {
	for _, file := range handlerFiles(family, handler) {
		if exists(fsys, file) {
			return file
		}
	}
	if files := handlerFiles(family, handler); family == Python && files != nil {
		for _, suffix := range []string{".pyc", ".so", ".*.so"} { // compiled modules
			if hits, err := fs.Glob(fsys, module(files[0])+suffix); err == nil && len(hits) > 0 {
				return hits[0]
			}
		}
	}
	return ""
}

// handlerFiles returns where a runtime looks for a handler, as AWS's do. Python
// takes what is before the last dot for a module, whose own dots are directories
// like slashes. Node takes what is before the first dot of the last element for
// a file, and the rest for a path inside what it exports.
func handlerFiles(family, handler string) []string {
	if family == Python {
		i := strings.LastIndex(handler, ".")
		if i < 1 || i == len(handler)-1 {
			return nil
		}
		name := strings.ReplaceAll(handler[:i], ".", "/")
		return []string{name + ".py", name + "/__init__.py"}
	}
	dir, base := path.Split(handler)
	file, function, _ := strings.Cut(base, ".")
	if file == "" || function == "" {
		return nil
	}
	return []string{dir + file + ".js", dir + file + ".mjs", dir + file + ".cjs"}
}
