package config

import (
	"flag"
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of variables into README.md")

const (
	readme     = "../../README.md"
	tableBegin = "<!-- variables -->\n"
	tableEnd   = "<!-- /variables -->"
)

func TestREADMEHasTheVariablesAsTheyAre(t *testing.T) {
	data, err := os.ReadFile(readme)
	if err != nil {
		t.Fatalf("the README with the table of variables is missing: %v", err)
	}
	before, rest, begins := strings.Cut(string(data), tableBegin)
	got, after, ends := strings.Cut(rest, tableEnd)
	if !begins || !ends {
		t.Fatalf("%s has no place for the table of variables: put a line %q and a line %q where it belongs", readme, strings.TrimSpace(tableBegin), tableEnd)
	}
	want := variablesTable(t)
	if got == want {
		return
	}
	if !*update {
		t.Fatalf("the table of variables in %s is not that of vars.go; `go test ./internal/config -update` writes it:\n%s", readme, want)
	}
	if err := os.WriteFile(readme, []byte(before+tableBegin+want+tableEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTableHasEveryVariableThatActs(t *testing.T) {
	table := variablesTable(t)
	for name := range vocabulary() {
		if !strings.Contains(table, "`"+name+"`") {
			t.Errorf("the table has no %s", name)
		}
	}
	for _, row := range strings.Split(strings.TrimSpace(table), "\n") {
		if strings.Count(row, "|") != 4 {
			t.Errorf("not three cells: %s", row)
		}
	}
}

// row is one of the table: fields with a comment begin one, those without belong to the one above.
type row struct{ names, defaults, meaning string }

func variablesTable(t *testing.T) string {
	t.Helper()
	file, err := goparser.ParseFile(token.NewFileSet(), "vars.go", nil, goparser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| variable | default | meaning |\n|---|---|---|\n")
	for _, r := range rows(file, "vars", "") {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.names, r.defaults, r.meaning)
	}
	return b.String()
}

func rows(file *ast.File, structName, prefix string) []row {
	var list []row
	for _, field := range fields(file, structName) {
		if field.Tag == nil {
			continue
		}
		quoted, _ := strconv.Unquote(field.Tag.Value)
		tag := reflect.StructTag(quoted)
		meaning := strings.Join(strings.Fields(field.Doc.Text()), " ")
		if of, ok := field.Type.(*ast.ArrayType); ok {
			own := rows(file, of.Elt.(*ast.Ident).Name, tag.Get("envPrefix")+"0_")
			own[0].meaning = meaning
			own[0].names += ", `" + tag.Get("envPrefix") + "1_DOMAINS` …"
			list = append(list, own...)
			continue
		}
		name := code(prefix + tag.Get("env"))
		if meaning == "" {
			list[len(list)-1].names += ", " + name
			continue
		}
		list = append(list, row{name, code(tag.Get("envDefault") + tag.Get("default")), meaning})
	}
	return list
}

func fields(file *ast.File, structName string) []*ast.Field {
	for _, decl := range file.Decls {
		general, ok := decl.(*ast.GenDecl)
		if !ok || general.Tok != token.TYPE {
			continue
		}
		if spec := general.Specs[0].(*ast.TypeSpec); spec.Name.Name == structName {
			return spec.Type.(*ast.StructType).Fields.List
		}
	}
	return nil
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}
