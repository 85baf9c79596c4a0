package docker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"github.com/docker/docker/client"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"syscall"
)

// Advice says what a person can do about an engine that does not answer; "" where we do not know better than the error.
func (e *Engine) Advice(err error) string {
	if !errors.Is(err, ErrUnavailable) {
		return ""
	}
	if _, ok := errors.AsType[*strangerError](err); ok {
		return fmt.Sprintf("what answers at %s is no Docker engine, nor a socket proxy that lets this call through: correct DOCKER_HOST", e.host)
	}
	if refused, ok := errors.AsType[*versionError](err); ok && e.fixed {
		return fmt.Sprintf("unset DOCKER_API_VERSION, so that a version is agreed upon, or set it to %s", refused.wanted)
	} else if ok {
		return fmt.Sprintf("update sidecert, or set DOCKER_API_VERSION=%s", refused.wanted)
	}
	if _, ok := errors.AsType[*behindError](err); ok {
		return fmt.Sprintf("the socket proxy at %s answers, but not the engine behind it: see that the proxy mounts the engine's socket and may use it (its log says more)", e.host)
	}
	if advice := e.adviceOnTLS(err); advice != "" {
		return advice
	}
	socket := e.socket()
	if socket == "" {
		return fmt.Sprintf("nothing answers at %s: see that the socket proxy runs and shares a network with sidecert, or correct DOCKER_HOST", e.host)
	}
	info, statErr := os.Stat(socket)
	switch {
	case errors.Is(statErr, fs.ErrNotExist) && e.host != client.DefaultDockerHost:
		return fmt.Sprintf("there is no %s here: mount it (volumes: [%s:%s]); if a socket proxy makes it, mount the volume of both and see that the proxy runs", socket, socket, socket)
	case errors.Is(statErr, fs.ErrNotExist):
		return fmt.Sprintf("there is no %s here: mount it (volumes: [%s:%s]), or set DOCKER_HOST to a socket proxy", socket, socket, socket)
	case statErr != nil:
		return fmt.Sprintf("%s cannot be reached: %v", socket, statErr)
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Sprintf("%s is no socket: Docker makes a folder of a mounted path that does not exist on the host; correct the left side of the mount", socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("%s belongs to group %d, which sidecert is not in: add group_add: [\"%d\"] to its service", socket, info.Sys().(*syscall.Stat_t).Gid, info.Sys().(*syscall.Stat_t).Gid)
	}
	return fmt.Sprintf("%s is there but nobody answers: see that the Docker engine runs", socket)
}

// adviceOnTLS is for both sides' certificates, and for TLS with one that does not speak it; "" for anything else.
func (e *Engine) adviceOnTLS(err error) string {
	_, tlsOnly := errors.AsType[*wantsTLSError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	words := err.Error()
	switch {
	case tlsOnly:
		return fmt.Sprintf("%s speaks TLS only: set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the folder with ca.pem, cert.pem and key.pem", e.host)
	case e.base.Scheme == "http" && e.socket() == "" && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
		return fmt.Sprintf("what listens at %s ends the connection: where it speaks TLS only, set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH; else correct DOCKER_HOST", e.host)
	case e.base.Scheme == "http":
		return ""
	case noTLS, errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Sprintf("%s does not speak TLS: name its TLS port in DOCKER_HOST (2376 by custom; 2375 is the plain one), or unset DOCKER_TLS_VERIFY and DOCKER_CERT_PATH", e.host)
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return fmt.Sprintf("the certificate of the engine at %s itself is out of date, or the clock here is wrong: renew it (dockerd --tlscert)", e.host)
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Sprintf("the certificate of the engine at %s itself is for another name: write one of its names in DOCKER_HOST", e.host)
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Sprintf("%s/ca.pem did not sign the certificate of the engine at %s: put the engine's CA there", e.certs, e.host)
	}
	if strings.Contains(words, "remote error: tls: ") {
		return fmt.Sprintf("the engine at %s refuses the client certificate %s/cert.pem: take one that its CA (dockerd --tlscacert) has signed for clients and that has not expired", e.host, e.certs)
	}
	return ""
}
