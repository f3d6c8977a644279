package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// A paragraph is prose without a break: consecutive lines of a comment or of a document, an item
// of a list, a cell of a table.
type paragraph struct {
	lines   []line
	allowed bool   // has a marker prose:allow
	reason  string // what follows the marker
}

type line struct {
	number int
	text   string
}

type sentence struct {
	line int // where it begins
	text string
}

var (
	marker     = regexp.MustCompile(`^\s*(?:<!--\s*)?prose:allow\b\s*(.*?)\s*(?:-->)?\s*$`)
	code       = regexp.MustCompile("``[^`]+``|`[^`]*`")
	target     = regexp.MustCompile(`\]\([^)]*\)`)
	item       = regexp.MustCompile(`^\s*(?:[-*+]|\d+\.)\s+`)
	heading    = regexp.MustCompile(`^#+\s`)
	rowBorder  = regexp.MustCompile(`^\s*\|[\s:|-]+\|\s*$`)
	endOfLine  = regexp.MustCompile(`([.:;?!]["')*]*)\s+`)
	shellNotes = regexp.MustCompile(`^\s*#(?:!.*|\s?(.*))$`)
	queryName  = regexp.MustCompile(`^name: \w+ :\w+$`) // which sqlc reads
	shouted    = regexp.MustCompile(`^\s*[A-Z]{3,}\b`)  // the beginning of a statement of SQL
	sqlNotes   = regexp.MustCompile(`^\s*--\s?(.*)$`)
)

func (p paragraph) text() string {
	var words []string
	for _, l := range p.lines {
		words = append(words, strings.Fields(l.text)...)
	}
	return strings.Join(words, " ")
}

// sentences splits the paragraph at full stops, colons, semicolons, question and exclamation
// marks.
func (p paragraph) sentences() []sentence {
	var all []sentence
	var current []string
	begins := 0
	end := func() {
		if len(current) > 0 {
			all = append(all, sentence{begins, strings.Join(current, " ")})
		}
		current = nil
	}
	for _, l := range p.lines {
		for part := range strings.SplitSeq(endOfLine.ReplaceAllString(l.text+" ", "$1\x00"), "\x00") {
			words := strings.Fields(part)
			if len(words) == 0 {
				continue
			}
			if len(current) == 0 {
				begins = l.number
			}
			current = append(current, words...)
			if endOfLine.MatchString(words[len(words)-1] + " ") {
				end()
			}
		}
	}
	end()
	return all
}

// extract returns the prose of a file, none of a file of another kind.
func extract(name string, source []byte) ([]paragraph, error) {
	switch path.Ext(name) {
	case ".md":
		return markdown(string(source)), nil
	case ".go":
		return goProse(name, source)
	case ".sql":
		return lineComments(string(source), sqlNotes), nil
	case ".sh":
		return lineComments(string(source), shellNotes), nil
	}
	if path.Base(name) == "Makefile" || strings.HasPrefix(string(source), "#!") {
		return lineComments(string(source), shellNotes), nil
	}
	return nil, nil
}

// A collector makes paragraphs of lines.
type collector struct {
	done    []paragraph
	current paragraph
	// next has the reason of a marker on its own, for the paragraph that follows.
	next *string
}

func (c *collector) add(number int, text string) {
	if m := marker.FindStringSubmatch(text); m != nil {
		if len(c.current.lines) > 0 {
			c.current.allowed, c.current.reason = true, m[1]
		} else {
			c.next = &m[1]
		}
		return
	}
	if c.next != nil {
		c.current.allowed, c.current.reason, c.next = true, *c.next, nil
	}
	c.current.lines = append(c.current.lines, line{number, text})
}

func (c *collector) end() {
	if len(c.current.lines) > 0 {
		c.done = append(c.done, c.current)
	}
	c.current = paragraph{}
}

// markdown returns the paragraphs of a document, without blocks of code.
func markdown(source string) []paragraph {
	var c collector
	fence, comment := "", false
	n := 0
	for text := range strings.SplitSeq(source, "\n") {
		n++
		trimmed := strings.TrimSpace(text)
		switch {
		case fence != "":
			if strings.HasPrefix(trimmed, fence) {
				fence = ""
			}
			continue
		case comment:
			comment = !strings.Contains(text, "-->")
			continue
		case strings.HasPrefix(trimmed, "```"):
			fence = "```"
			c.end()
			continue
		case marker.MatchString(text):
			c.end()
			c.add(n, text)
			continue
		case strings.HasPrefix(trimmed, "<!--"):
			comment = !strings.Contains(text, "-->")
			c.end()
			continue
		case trimmed == "" || strings.HasPrefix(trimmed, "<") || strings.HasPrefix(trimmed, "![") || rowBorder.MatchString(text):
			c.end()
			continue
		}
		text = target.ReplaceAllString(code.ReplaceAllString(text, "X"), "]")
		switch {
		case strings.HasPrefix(trimmed, "|"):
			for cell := range strings.SplitSeq(strings.ReplaceAll(text, `\|`, "/"), "|") {
				c.end()
				if strings.TrimSpace(cell) != "" {
					c.add(n, cell)
				}
			}
			c.end()
		case heading.MatchString(text):
			c.end()
			c.add(n, heading.ReplaceAllString(text, ""))
			c.end()
		case item.MatchString(text):
			c.end()
			c.add(n, item.ReplaceAllString(text, ""))
		default:
			c.add(n, text)
		}
	}
	c.end()
	return c.done
}

// goProse returns the paragraphs of comments, and, unless it is a test, of texts that the code has
// for its users.
func goProse(name string, source []byte) ([]paragraph, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	all := goComments(files, file)
	if !strings.HasSuffix(name, "_test.go") {
		all = append(all, goTexts(files, file)...)
	}
	return all, nil
}

// goTexts returns the strings of at least three words: usage texts, messages, errors. Parts of a
// concatenation are one text, in which X stands for the operands that are not literals.
func goTexts(files *token.FileSet, file *ast.File) []paragraph {
	var c collector
	var visit func(ast.Node) bool
	var join func(ast.Expr) string
	join = func(e ast.Expr) string {
		switch e := e.(type) {
		case *ast.BasicLit:
			if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
				return text
			}
		case *ast.BinaryExpr:
			if e.Op == token.ADD {
				return join(e.X) + join(e.Y)
			}
		}
		ast.Inspect(e, visit)
		return "X"
	}
	visit = func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.BinaryExpr:
			if n.Op != token.ADD {
				return true
			}
		case *ast.BasicLit:
			if n.Kind != token.STRING {
				return false
			}
		default:
			return true
		}
		text := join(n.(ast.Expr))
		if len(strings.Fields(text)) < 3 || shouted.MatchString(text) {
			return false
		}
		begins := files.Position(n.Pos()).Line
		for part := range strings.SplitSeq(code.ReplaceAllString(text, "X"), "\n") {
			if strings.TrimSpace(part) == "" || strings.HasPrefix(part, "  ") || strings.HasPrefix(part, "\t") {
				c.end()
				continue
			}
			c.add(begins, part)
		}
		c.end()
		return false
	}
	ast.Inspect(file, visit)
	return c.done
}

// goComments returns the paragraphs of comments, without directives and blocks of code.
func goComments(files *token.FileSet, file *ast.File) []paragraph {
	var c collector
	for _, group := range file.Comments {
		first := len(c.done)
		var exempt []string // the reason of a marker anywhere in the comment: gofmt moves it to the end
		for _, comment := range group.List {
			n := files.Position(comment.Pos()).Line
			text, isLine := strings.CutPrefix(comment.Text, "//")
			if !isLine {
				text = strings.TrimSuffix(strings.TrimPrefix(text, "/*"), "*/")
			}
			for part := range strings.SplitSeq(text, "\n") {
				switch {
				case marker.MatchString(part):
					c.end()
					exempt = marker.FindStringSubmatch(part)[1:]
				case isLine && part != "" && part[0] != ' ': // a directive, or a block of code
					c.end()
				case isLine && strings.HasPrefix(part, "  "), strings.TrimSpace(part) == "":
					c.end()
				case item.MatchString(part):
					c.end()
					c.add(n, item.ReplaceAllString(part, ""))
				default:
					c.add(n, strings.TrimPrefix(strings.TrimSpace(part), "# "))
				}
				n++
			}
		}
		c.end()
		if exempt != nil {
			for i := range c.done[first:] {
				c.done[first+i].allowed, c.done[first+i].reason = true, exempt[0]
			}
		}
	}
	return c.done
}

// lineComments returns the paragraphs of lines that match pattern.
func lineComments(source string, pattern *regexp.Regexp) []paragraph {
	var c collector
	n := 0
	for text := range strings.SplitSeq(source, "\n") {
		n++
		m := pattern.FindStringSubmatch(text)
		if m == nil || strings.TrimSpace(m[1]) == "" || queryName.MatchString(m[1]) {
			c.end()
			continue
		}
		c.add(n, m[1])
	}
	c.end()
	return c.done
}
