package config

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"path"
	"strings"
)

// maxFile is how long a file may be, in bytes: four times what all the roots of a Linux distribution are.
const maxFile = 1 << 20

// file reads a file that a variable names; nil with a mistake, or if the variable is not set.
func (p *parser) file(variable, name string) []byte {
	if name == "" {
		return nil
	}
	shown := name
	if Secret(variable) && !strings.HasPrefix(name, "/run/") {
		shown = redacted
	}
	if !path.IsAbs(name) {
		p.wrong(variable, shown, "is no absolute path; write e.g. /run/secrets/NAME")
		return nil
	}
	data, err := p.world.ReadFile(name)
	if err != nil {
		p.wrong(variable, shown, "cannot be read (%s); mount the file in the container of sidecert", cause(err))
		return nil
	}
	if len(data) > maxFile {
		p.wrong(variable, shown, "is a file of %d bytes; %d are the most", len(data), maxFile)
		return nil
	}
	return data
}

// cause is an error without the path, which is said already.
func cause(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	return err
}

// textOrFile is a variable's value or, with _FILE, what the file holds without the line end that editors add.
func (p *parser) textOrFile(variable, text, file string) string {
	if file == "" {
		return text
	}
	variable += "_FILE"
	if text != "" {
		p.wrong(variable, "", "stands beside the same without _FILE; leave one out")
		return ""
	}
	data := p.file(variable, file)
	if data == nil {
		return ""
	}
	text = strings.TrimSpace(strings.TrimPrefix(string(data), byteOrderMark))
	if text == "" {
		p.wrong(variable, "", "names an empty file; write the value into it")
	}
	return text
}

// bundle reads the roots of a CA of one's own.
func (p *parser) bundle(name string) string {
	data := p.file("ACME_CA_BUNDLE", name)
	if data == nil {
		return ""
	}
	roots := 0
	for rest := data; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		switch {
		case block == nil && roots == 0:
			p.wrong("ACME_CA_BUNDLE", name, "holds no certificate in PEM form; name a file with -----BEGIN CERTIFICATE-----")
			return ""
		case block == nil:
			return string(bytes.TrimPrefix(data, []byte(byteOrderMark)))
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			p.wrong("ACME_CA_BUNDLE", name, "holds a private key, which nobody but the CA should have; name a file with certificates only")
			return ""
		case block.Type != "CERTIFICATE":
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			p.wrong("ACME_CA_BUNDLE", name, "holds a damaged certificate; export the roots again")
			return ""
		}
		roots++
	}
}
