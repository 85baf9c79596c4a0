package store

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The sections of a renewal configuration that are read or written, as paths.
const (
	topSection    = ""
	renewalParams = "renewalparams"
	webrootMap    = "renewalparams/webroot_map"
)

// errBadConf says that neither we nor certbot can read a renewal configuration.
var errBadConf = errors.New("the renewal configuration cannot be read")

// conf is a file in certbot's renewal/, kept line by line so that what we do not know survives, comments included. Its grammar is
// that of Python's configobj: `key = value`, lists with commas, quotes, [section], [[subsection]] and # comments.
type conf struct {
	lines []string
	bom   bool
	read  []entry // what the lines say; nil after they have changed
}

const bom = "\ufeff"

// parseConf reads a file; with errBadConf if a line of it is nothing that the grammar knows.
func parseConf(data []byte) (*conf, error) {
	c, err := splitConf(data)
	if err != nil {
		return nil, err
	}
	if c.read, _, err = c.parse(); err != nil {
		return nil, err
	}
	return c, c.mustHaveParams()
}

func splitConf(data []byte) (*conf, error) {
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		return nil, fmt.Errorf("%w: it is no text", errBadConf)
	}
	text, marked := strings.CutPrefix(string(data), bom)
	return &conf{lines: strings.Split(strings.TrimSuffix(text, "\n"), "\n"), bom: marked}, nil
}

func (c *conf) mustHaveParams() error {
	if !slices.ContainsFunc(c.entries(), func(e entry) bool { return e.head && e.section == renewalParams }) {
		return fmt.Errorf("%w: it has no [renewalparams]", errBadConf)
	}
	return nil
}

// maxLost is how many lines of a conf may be damaged; one with more is given up.
const maxLost = 100

// salvageConf reads those lines of a damaged conf that can be read. It counts those that it leaves out, and says which the first is.
func salvageConf(data []byte) (c *conf, lost, first int, err error) {
	if c, err = splitConf(data); err != nil {
		return nil, 0, 0, err
	}
	for {
		all, bad, err := c.parse()
		if err == nil {
			c.read = all
			break
		}
		if lost == maxLost {
			return nil, 0, 0, err
		}
		if lost++; lost == 1 {
			first = bad + 1
		}
		c.lines = slices.Delete(c.lines, bad, bad+1)
	}
	twice := c.repeated()
	if lost += len(twice); lost > maxLost {
		return nil, 0, 0, fmt.Errorf("%w: more than %d lines are damaged", errBadConf, maxLost)
	}
	for _, e := range slices.Backward(twice) {
		c.remove(e)
	}
	return c, lost, first, c.mustHaveParams()
}

// repeated are settings that stand in their section already, and sections that were there before, with all that is in them: what is
// left of two merged files, which certbot does not read.
func (c *conf) repeated() (twice []entry) {
	seen, within := map[string]bool{}, false
	for _, e := range c.entries() {
		id := e.section + "\n" + e.key
		if e.head {
			id, within = e.section, seen[e.section]
		}
		if within || seen[id] {
			twice = append(twice, e)
		}
		seen[id] = true
	}
	return twice
}

func (c *conf) String() string {
	text := strings.Join(c.lines, "\n") + "\n"
	if c.bom {
		text = bom + text
	}
	return text
}

// entry is a setting, or the head of a section.
type entry struct {
	section string // that a setting stands in, or that a head opens
	head    bool
	key     string
	values  []string // of a list all, else one
	// The setting's first and last line, and where in them the text of its value begins and ends.
	first, last, from, to int
}

var (
	headLine    = regexp.MustCompile(`^\s*((?:\[\s*)+)("\s*\S.*?\s*"|'\s*\S.*?\s*'|[^'"\s].*?)((?:\s*\])+)\s*(?:#.*)?$`)
	settingLine = regexp.MustCompile(`^\s*(".*?"|'.*?'|[^'"=].*?)\s*=\s*(.*)$`)
)

// entries are what the lines say.
func (c *conf) entries() []entry {
	if c.read == nil {
		c.read, _, _ = c.parse() // parseConf has seen that they can be read
	}
	return c.read
}

// parse reads the lines. With an error, bad is the index of the one that is nothing that the grammar knows.
func (c *conf) parse() (all []entry, bad int, err error) {
	var within []string
	for i := 0; i < len(c.lines); i++ {
		line := c.lines[i]
		if text := strings.TrimSpace(line); text == "" || text[0] == '#' {
			continue
		}
		if m := headLine.FindStringSubmatch(line); m != nil {
			depth := strings.Count(m[1], "[")
			if depth != strings.Count(m[3], "]") || depth > len(within)+1 {
				return nil, i, fmt.Errorf("%w: line %d is no section", errBadConf, i+1)
			}
			within = append(within[:depth-1], unquote(m[2]))
			all = append(all, entry{section: strings.Join(within, "/"), head: true, first: i, last: i})
			continue
		}
		e, ok := c.setting(i)
		if !ok {
			return nil, i, fmt.Errorf("%w: line %d is no setting, section or comment", errBadConf, i+1)
		}
		e.section = strings.Join(within, "/")
		all = append(all, e)
		i = e.last
	}
	return all, 0, nil
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[0] == s[len(s)-1] {
		return s[1 : len(s)-1]
	}
	return s
}

// setting reads the one that begins in line i.
func (c *conf) setting(i int) (entry, bool) {
	line := c.lines[i]
	m := settingLine.FindStringSubmatchIndex(line)
	if m == nil {
		return entry{}, false
	}
	e := entry{key: unquote(line[m[2]:m[3]]), first: i, last: i, from: m[4]}
	text := line[e.from:]
	if strings.HasPrefix(text, `"""`) || strings.HasPrefix(text, `'''`) {
		return c.tripleQuoted(e, text[:3])
	}
	values, length, ok := parseValues(text)
	e.values, e.to = values, e.from+length
	return e, ok
}

// maxValue is how many lines a value may go over.
const maxValue = 100

// tripleQuoted reads a value that may go over several lines.
func (c *conf) tripleQuoted(e entry, quotes string) (entry, bool) {
	text := c.lines[e.first][e.from+3:]
	if end := endOfQuoted(text, quotes, ""); end >= 0 {
		e.values, e.to = []string{text[:end]}, e.from+3+end+3
		return e, true
	}
	for i, line := range c.lines[e.first+1 : min(len(c.lines), e.first+maxValue)] {
		if strings.Contains(text, quotes) { // they are not the last in their line
			return e, false
		}
		if end := endOfQuoted(line, quotes, ""); end >= 0 {
			e.values, e.last, e.to = []string{text + "\n" + line[:end]}, e.first+1+i, end+3
			return e, true
		}
		text += "\n" + line
	}
	return e, false
}

// endOfQuoted finds the first closing quotes after which the line ends, has a comment, or goes on with one of more.
func endOfQuoted(text, quotes, more string) int {
	for at := 0; ; at++ {
		next := strings.Index(text[at:], quotes)
		if next < 0 {
			return -1
		}
		at += next
		if rest := strings.TrimSpace(text[at+len(quotes):]); rest == "" || strings.ContainsAny(rest[:1], "#"+more) {
			return at
		}
	}
}

// parseValues reads a value or a list, and how long its text is without what follows it.
func parseValues(text string) (values []string, length int, ok bool) {
	at, list := 0, false
	for {
		at += len(text[at:]) - len(strings.TrimLeftFunc(text[at:], unicode.IsSpace))
		rest := text[at:]
		switch {
		case rest == "" || rest[0] == '#':
			if !list {
				values = []string{""}
			}
			return values, length, true
		case rest[0] == ',':
			if list { // two commas in a row
				return nil, 0, false
			}
			list, at, length = true, at+1, at+1
			if after := strings.TrimSpace(text[at:]); after != "" && after[0] != '#' { // a lone comma is an empty list
				return nil, 0, false
			}
			continue
		case rest[0] == '"' || rest[0] == '\'':
			end := endOfQuoted(rest[1:], rest[:1], ",")
			if end < 0 {
				return nil, 0, false
			}
			values, length = append(values, rest[1:1+end]), at+end+2
		default:
			value := rest
			if end := strings.IndexAny(rest, ",#"); end >= 0 {
				value = rest[:end]
			}
			value = strings.TrimRightFunc(value, unicode.IsSpace)
			values, length = append(values, value), at+len(value)
		}
		at = length + len(text[length:]) - len(strings.TrimLeftFunc(text[length:], unicode.IsSpace))
		if at == len(text) || text[at] != ',' {
			return values, length, true
		}
		list, at, length = true, at+1, at+1
	}
}

// find returns the settings of a key in a section: where certbot reads a file at all, at most one.
func (c *conf) find(section, key string) []entry {
	return slices.DeleteFunc(c.in(section), func(e entry) bool { return e.key != key })
}

// in returns the settings of a section, in their order.
func (c *conf) in(section string) (out []entry) {
	for _, e := range c.entries() {
		if !e.head && e.section == section {
			out = append(out, e)
		}
	}
	return out
}

// list returns the values of a key, nil if it does not stand there.
func (c *conf) list(section, key string) []string {
	found := c.find(section, key)
	if len(found) == 0 {
		return nil
	}
	return found[len(found)-1].values
}

// get returns the value of a key; "" if it does not stand there, or is certbot's word for that.
func (c *conf) get(section, key string) string {
	return plain(c.list(section, key))
}

func plain(values []string) string {
	value := strings.Join(values, ", ")
	if value == "None" {
		return ""
	}
	return value
}

// set gives a key one value. A line that says so already is left as it is, and a changed one keeps its comment.
func (c *conf) set(section, key, value string) {
	if found := c.find(section, key); len(found) == 1 && slices.Equal(found[0].values, []string{value}) {
		return
	}
	if text, ok := quote(value); ok {
		c.put(section, key, text)
	}
}

// setList gives a key a list of one.
func (c *conf) setList(section, key, value string) {
	if found := c.find(section, key); len(found) == 1 && slices.Equal(found[0].values, []string{value}) {
		return
	}
	text, ok := quote(value)
	if !ok {
		return
	}
	if !strings.HasPrefix(text, `"""`) && !strings.HasPrefix(text, `'''`) { // which no list can hold
		text += ","
	}
	c.put(section, key, text)
}

// quote writes a value as configobj does; not ok for one that it has no way to write in a line.
func quote(value string) (text string, ok bool) {
	single, double := strings.Contains(value, "'"), strings.Contains(value, `"`)
	switch {
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) || strings.ContainsAny(value, "\u2028\u2029"):
		return "", false
	case single && double && !strings.Contains(value, `"""`):
		return `"""` + value + `"""`, true
	case single && double:
		return `'''` + value + `'''`, !strings.Contains(value, `'''`)
	case value != "" && value == strings.Trim(strings.TrimSpace(value), `'"`) && !strings.ContainsAny(value, ",#"):
		return value, true
	case double:
		return "'" + value + "'", true
	}
	return `"` + value + `"`, true
}

// put writes the text of a value into the key's line, or into a new one after the last of its section, which is made if need be.
func (c *conf) put(section, key, text string) {
	if found := c.find(section, key); len(found) > 0 {
		last := len(found) - 1
		c.change(found[last], text)
		for _, e := range slices.Backward(found[:last]) {
			c.remove(e)
		}
		return
	}
	name, ok := quote(key)
	if !ok || key == "" || strings.HasPrefix(name, `"""`) || strings.HasPrefix(name, `'''`) || strings.ContainsAny(name[:1]+key, "=[") {
		return
	}
	at := c.end(section)
	if at < 0 {
		at = c.open(section)
	}
	c.insert(at, name+" = "+text)
}

func (c *conf) change(e entry, text string) {
	before, after := c.lines[e.first][:e.from], c.lines[e.last][e.to:]
	if strings.HasSuffix(before, "=") {
		before += " "
	}
	if strings.HasPrefix(after, "#") {
		after = " " + after
	}
	c.lines, c.read = slices.Replace(c.lines, e.first, e.last+1, before+text+after), nil
}

func (c *conf) remove(e entry) { c.lines, c.read = slices.Delete(c.lines, e.first, e.last+1), nil }

// drop removes a key.
func (c *conf) drop(section, key string) {
	found := c.find(section, key)
	for _, e := range slices.Backward(found) {
		c.remove(e)
	}
}

// end is the line after a section's last setting, -1 if there is no such section. Comments that stand before the next section
// belong to that.
func (c *conf) end(section string) int {
	at := -1
	if section == topSection {
		at = 0
	}
	for _, e := range c.entries() {
		if e.section == section {
			at = e.last + 1
		}
	}
	return at
}

// open adds the head of a section, after all that is in the one around it.
func (c *conf) open(section string) int {
	at := len(c.lines)
	parts := strings.Split(section, "/")
	for _, e := range c.entries() {
		if len(parts) > 1 && (e.section == parts[0] || strings.HasPrefix(e.section, parts[0]+"/")) {
			at = e.last + 1
		}
	}
	depth := len(parts)
	c.insert(at, strings.Repeat("[", depth)+parts[depth-1]+strings.Repeat("]", depth))
	return at + 1
}

// insert adds a line, which ends as the others do.
func (c *conf) insert(at int, line string) {
	if len(c.lines) > 0 && strings.HasSuffix(c.lines[0], "\r") {
		line += "\r"
	}
	c.lines, c.read = slices.Insert(c.lines, at, line), nil
}
