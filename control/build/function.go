package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"lambent"
)

const (
	frameworkModule = "github.com/GoogleCloudPlatform/functions-framework-go"

	// sourceDir is where Google's build moves the source of a function in Go, which
	// reads its files from there.
	sourceDir = "serverless_function_source_code"

	// mainDir is where the program appears to be to the go command, beside the source.
	mainDir = "lambent.local"
)

// framework is what is required for functions that require none, as Google's build
// does it: there, what the framework asks for at least of a module that it needs looks
// at every type at each start, for a millisecond.
var framework = []string{"-require=" + frameworkModule + "@v1.9.2", "-require=github.com/modern-go/reflect2@v1.0.2"}

// function writes the program that serves a package of functions of Google's, and
// returns what of it is to be built. The source is only read: the program is laid
// over it, and what go.mod and go.sum lack is added to copies of them.
//
// Which of the functions is served is said when the program starts. So they can be
// built before that is known, and once for all of them.
func (r *goRun) function(ctx context.Context, pkg goPackage, mod, home string) ([]string, error) {
	module, err := r.readModule(ctx)
	if err != nil {
		return nil, err
	}
	required := slices.ContainsFunc(module.Require, func(m struct{ Path string }) bool { return m.Path == frameworkModule })
	f, err := readFunctions(r.dir, pkg, required)
	if err != nil {
		return nil, err
	}
	var main bytes.Buffer
	if err := mainFile.Execute(&main, f); err != nil {
		return nil, lambent.Errorf(lambent.Internal, goOp, "%w", err)
	}
	file, overlay := filepath.Join(home, "main.go"), filepath.Join(home, "overlay.json")
	laid, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(r.dir, mainDir, "main.go"): file}})
	if err := errors.Join(err, os.WriteFile(file, main.Bytes(), 0o600), os.WriteFile(overlay, laid, 0o600)); err != nil {
		return nil, lambent.Errorf(lambent.Internal, goOp, "%w", err)
	}
	target := []string{mod, "-overlay=" + overlay, "./" + mainDir}
	if mod == "-mod=vendor" {
		if _, err := os.Stat(filepath.Join(r.dir, "vendor", filepath.FromSlash(frameworkModule), "funcframework")); err != nil {
			return nil, lambent.Errorf(lambent.Broken, goOp, "vendor lacks %s/funcframework, which serves the functions: import it as _ in package %s", frameworkModule, pkg.Name).
				WithHint("go get %s && go mod tidy && go mod vendor && lambent deploy", frameworkModule)
		}
		return target, nil
	}
	copied, err := r.copyModule(ctx, home, required)
	if err != nil {
		return nil, err
	}
	target[0] = "-mod=mod"
	return append([]string{"-modfile=" + copied}, target...), nil
}

// copyModule copies go.mod and go.sum into home, and returns where go.mod is then. It
// requires the framework there, if it is not required yet.
func (r *goRun) copyModule(ctx context.Context, home string, required bool) (string, error) {
	copied := filepath.Join(home, "go.mod")
	for _, name := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(r.dir, name))
		if name == "go.sum" && errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err := errors.Join(err, os.WriteFile(filepath.Join(home, name), b, 0o600)); err != nil {
			return "", lambent.Errorf(lambent.Internal, goOp, "%w", err)
		}
	}
	if required {
		return copied, nil
	}
	return copied, r.do(ctx, io.Discard, slices.Concat([]string{"mod", "edit"}, framework, []string{copied})...)
}

// linkSource has the files that are copied beside the program found where Google's
// build puts them, too.
func linkSource(src, out string) error {
	if _, err := os.Lstat(filepath.Join(src, sourceDir)); err == nil {
		return nil
	}
	return os.Symlink(".", filepath.Join(out, sourceDir))
}

// functions are those of a package that can be served.
type functions struct {
	ImportPath string
	Exported   []string // those that may not have registered themselves; sorted
}

// readFunctions reads the functions of a package. Without any it is refused, unless it
// has to do with the framework: another package may register them.
func readFunctions(dir string, pkg goPackage, registers bool) (functions, error) {
	f := functions{ImportPath: pkg.ImportPath}
	for _, name := range pkg.GoFiles {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if file == nil {
			return f, lambent.Errorf(lambent.Internal, goOp, "%w", err)
		}
		// What is wrong with it the compiler says better.
		registers = registers || err != nil || slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return strings.HasPrefix(i.Path.Value, `"`+frameworkModule+`/`) })
		for _, d := range file.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && servable(d) {
				f.Exported = append(f.Exported, d.Name.Name)
			}
		}
	}
	slices.Sort(f.Exported)
	if !registers && len(f.Exported) == 0 {
		return f, lambent.Errorf(lambent.Broken, goOp, "the package beside go.mod is %s: neither a package main nor one of functions of Google's", pkg.Name)
	}
	return f, nil
}

// servable reports whether a function may be one of Google's: of a request and its
// answer, or of a context and an event. The framework is who judges.
func servable(d *ast.FuncDecl) bool {
	return d.Recv == nil && d.Type.TypeParams == nil && d.Name.IsExported() && d.Type.Params.NumFields() == 2
}

// mainFile is the program. Functions that have registered themselves are found by the
// framework, before the one that the program registers.
var mainFile = template.Must(template.New("main.go").Parse(`// Command main serves functions, as its environment says.
package main

import (
	"log"
	"os"
{{- if .Exported}}
	"context"
	"net/http"

	"github.com/cloudevents/sdk-go/v2/event"
	function "{{.ImportPath}}"
{{- else}}
	_ "{{.ImportPath}}"
{{- end}}
	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"
)

func main() {
{{- if .Exported}}
	register()
{{- end}}
	log.Fatalf("The function cannot be served: %v", funcframework.Start(os.Getenv("PORT")))
}
{{- if .Exported}}

func register() {
	f := map[string]any{
	{{- range .Exported}}
		"{{.}}": function.{{.}},
	{{- end}}
	}[os.Getenv("FUNCTION_TARGET")]
	ctx, err := context.Background(), error(nil)
	switch f := f.(type) {
	case nil:
	case func(http.ResponseWriter, *http.Request):
		err = funcframework.RegisterHTTPFunctionContext(ctx, "/", f)
	case func(context.Context, event.Event) error:
		err = funcframework.RegisterCloudEventFunctionContext(ctx, "/", f)
	default:
		err = funcframework.RegisterEventFunctionContext(ctx, "/", f)
	}
	if err != nil {
		log.Printf("The function cannot be registered: %v", err)
	}
}
{{- end}}
`))
