package acmetest

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

type fakeAccount struct {
	url, thumbprint string
	key             crypto.PublicKey
	status          string
	contact         []string
}

type fakeOrder struct {
	id       string
	account  *fakeAccount
	names    []string
	profile  string
	replaces string
	authzs   []*fakeAuthz
	expires  time.Time
	cert     *fakeCert
	// issue is the place in FakeCounts.Orders.
	issue int
}

type fakeAuthz struct {
	id      string
	account *fakeAccount
	name    string
	status  string
	token   string
	problem *Problem
	expires time.Time
}

type fakeCert struct {
	account    *fakeAccount
	leaf       *x509.Certificate
	revoked    bool
	replacedBy *fakeOrder
}

// newAccount is RFC 8555 §7.3. f.mu is held, as in all that follow.
func (f *Fake) newAccount(s *signed) (*http.Response, error) {
	var ask struct {
		Contact              []string `json:"contact"`
		TermsOfServiceAgreed bool     `json:"termsOfServiceAgreed"`
		OnlyReturnExisting   bool     `json:"onlyReturnExisting"`
	}
	if err := s.into(&ask); err != nil {
		return nil, err
	}
	for _, known := range f.accounts {
		if keyID(known.key) != keyID(s.key) {
			continue
		}
		if known.status != "valid" {
			return nil, unauthorized("the account is " + known.status)
		}
		return known.response(http.StatusOK), nil
	}
	if ask.OnlyReturnExisting {
		return nil, &Problem{Type: "accountDoesNotExist", Detail: "no account has this key"}
	}
	if !ask.TermsOfServiceAgreed {
		return nil, &Problem{Status: http.StatusForbidden, Type: "userActionRequired", Detail: "agree to the terms"}
	}
	if err := checkContact(ask.Contact); err != nil {
		return nil, err
	}
	account := &fakeAccount{url: fakeHost + "/account/" + f.number(), thumbprint: s.thumbprint, key: s.key, status: "valid", contact: ask.Contact}
	f.accounts[account.url] = account
	f.counts.Accounts++
	return account.response(http.StatusCreated), nil
}

func checkContact(contact []string) error {
	for _, one := range contact {
		if !strings.HasPrefix(one, "mailto:") || !strings.Contains(one, "@") {
			return &Problem{Type: "unsupportedContact", Detail: "no contact: " + one}
		}
	}
	return nil
}

// account is RFC 8555 §7.3.2 and §7.3.6.
func (f *Fake) account(s *signed) (*http.Response, error) {
	if s.account.url != s.url {
		return nil, unauthorized("another account")
	}
	if len(s.payload) == 0 {
		return s.account.response(http.StatusOK), nil
	}
	var ask struct {
		Contact *[]string `json:"contact"`
		Status  string    `json:"status"`
	}
	if err := s.into(&ask); err != nil {
		return nil, err
	}
	if ask.Contact != nil {
		if err := checkContact(*ask.Contact); err != nil {
			return nil, err
		}
		s.account.contact = *ask.Contact
	}
	switch ask.Status {
	case "":
	case "deactivated":
		s.account.status = ask.Status
	default:
		return nil, malformed("an account does not become %q", ask.Status)
	}
	return s.account.response(http.StatusOK), nil
}

func (a *fakeAccount) response(status int) *http.Response {
	resp := object(status, map[string]any{"status": a.status, "contact": a.contact, "orders": a.url + "/orders"})
	resp.Header.Set("Location", a.url)
	return resp
}

// newOrder is RFC 8555 §7.4 with the profile of draft-ietf-acme-profiles and RFC 9773 §5's replaces.
func (f *Fake) newOrder(s *signed) (*http.Response, error) {
	var ask struct {
		Identifiers []struct {
			Type  string `json:"type"`
			Value string `json:"value"`
		} `json:"identifiers"`
		Profile  string `json:"profile"`
		Replaces string `json:"replaces"`
	}
	if err := s.into(&ask); err != nil {
		return nil, err
	}
	var names []string
	for _, id := range ask.Identifiers {
		if err := checkIdentifier(id.Type, id.Value); err != nil {
			return nil, err
		}
		names = append(names, id.Value)
	}
	slices.Sort(names)
	if len(names) == 0 || len(names) > 100 || len(slices.Compact(slices.Clone(names))) != len(names) {
		return nil, malformed("%d identifiers, or one twice", len(names))
	}
	if _, ok := f.config.Profiles[ask.Profile]; !ok && ask.Profile != "" {
		return nil, &Problem{Type: "invalidProfile", Detail: "no profile " + ask.Profile}
	}
	replaced, err := f.replaced(s.account, names, ask.Replaces)
	if err != nil {
		return nil, err
	}
	o := &fakeOrder{id: f.number(), account: s.account, names: names, profile: ask.Profile, replaces: ask.Replaces,
		expires: f.config.Now().Add(fakePending), issue: len(f.counts.Orders)}
	if replaced != nil {
		replaced.replacedBy = o
	}
	for _, name := range names {
		o.authzs = append(o.authzs, f.newAuthz(s.account, name, o.expires))
	}
	f.orders[o.id] = o
	f.counts.Orders = append(f.counts.Orders, FakeIssue{Names: names, At: f.config.Now(), Replaces: o.replaces})
	return f.orderResponse(http.StatusCreated, o), nil
}

// dnsName has no wildcard: this CA has http-01 alone.
var dnsName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func checkIdentifier(kind, value string) error {
	ip := net.ParseIP(value)
	switch {
	case kind != "dns" && kind != "ip":
		return &Problem{Type: "unsupportedIdentifier", Detail: "identifiers of type " + kind}
	case kind == "ip" && (ip == nil || ip.String() != value), kind == "dns" && (ip != nil || len(value) > 253 || !dnsName.MatchString(value)):
		return &Problem{Type: "rejectedIdentifier", Detail: "no name: " + value}
	}
	return nil
}

// replaced is the certificate that an order is to replace. The server "SHOULD check that the identified certificate and the newOrder
// request correspond to the same ACME Account, that they share at least one identifier, and that the identified certificate has not
// already been marked as replaced by a different Order that is not "invalid"." RFC 9773 §5
func (f *Fake) replaced(account *fakeAccount, names []string, certID string) (*fakeCert, error) {
	if certID == "" {
		return nil, nil
	}
	if f.config.Window == nil {
		return nil, malformed("this CA knows no replaces")
	}
	old := f.byCertID[certID]
	if old == nil {
		return nil, notFound("certificate " + certID)
	}
	shares := slices.ContainsFunc(cert.NamesOf(old.leaf), func(name string) bool { return slices.Contains(names, name) })
	switch {
	case old.account != account:
		return nil, unauthorized("another account's certificate is not replaced")
	case !shares:
		return nil, malformed("the certificate to be replaced has none of the names")
	case old.replacedBy != nil && f.status(old.replacedBy) != "invalid":
		return nil, &Problem{Status: http.StatusConflict, Type: "alreadyReplaced", Detail: "replaced by order " + old.replacedBy.id}
	}
	return old, nil
}

func (f *Fake) newAuthz(account *fakeAccount, name string, expires time.Time) *fakeAuthz {
	id := f.number()
	token := sha256.Sum256([]byte("token " + id))
	a := &fakeAuthz{id: id, account: account, name: name, status: "pending", expires: expires,
		token: base64.RawURLEncoding.EncodeToString(token[:])}
	f.authzs[id] = a
	return a
}

// status of an order follows from its authorizations, RFC 8555 §7.1.6.
func (f *Fake) status(o *fakeOrder) string {
	switch {
	case o.cert != nil:
		return "valid"
	case f.config.Now().After(o.expires):
		return "invalid"
	}
	status := "ready"
	for _, a := range o.authzs {
		switch a.status {
		case "valid":
		case "pending":
			if status == "ready" {
				status = "pending"
			}
		default:
			status = "invalid"
		}
	}
	return status
}

// OrderStatus is what an order's owner would read at its URL; "" where there is none.
func (f *Fake) OrderStatus(url string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.orders[strings.TrimPrefix(url, fakeHost+"/order/")]
	if o == nil {
		return ""
	}
	return f.status(o)
}

// order answers a POST-as-GET, RFC 8555 §7.1.3.
func (f *Fake) order(s *signed, id string) (*http.Response, error) {
	o, err := f.ownOrder(s, id)
	if err != nil {
		return nil, err
	}
	if err := s.asGet(); err != nil {
		return nil, err
	}
	return f.orderResponse(http.StatusOK, o), nil
}

func (f *Fake) ownOrder(s *signed, id string) (*fakeOrder, error) {
	o := f.orders[id]
	if o == nil {
		return nil, notFound("order " + id)
	}
	if o.account != s.account {
		return nil, unauthorized("another account's order")
	}
	return o, nil
}

func (f *Fake) orderResponse(status int, o *fakeOrder) *http.Response {
	wire := map[string]any{"status": f.status(o), "expires": o.expires.UTC().Format(time.RFC3339), "finalize": fakeHost + "/finalize/" + o.id}
	var identifiers []map[string]string
	for _, name := range o.names {
		identifiers = append(identifiers, identifierOf(name))
	}
	wire["identifiers"] = identifiers
	var urls []string
	for _, a := range o.authzs {
		urls = append(urls, fakeHost+"/authorization/"+a.id)
	}
	wire["authorizations"] = urls
	if o.profile != "" {
		wire["profile"] = o.profile
	}
	if o.replaces != "" {
		wire["replaces"] = o.replaces
	}
	if o.cert != nil {
		wire["certificate"] = fakeHost + "/certificate/" + o.id
	}
	resp := object(status, wire)
	resp.Header.Set("Location", fakeHost+"/order/"+o.id)
	return resp
}

func identifierOf(name string) map[string]string {
	if net.ParseIP(name) != nil {
		return map[string]string{"type": "ip", "value": name}
	}
	return map[string]string{"type": "dns", "value": name}
}

// authorization is RFC 8555 §7.5 and §7.5.2.
func (f *Fake) authorization(s *signed, id string) (*http.Response, error) {
	a, err := f.ownAuthz(s, id)
	if err != nil {
		return nil, err
	}
	if len(s.payload) > 0 {
		var ask struct {
			Status string `json:"status"`
		}
		if err := s.into(&ask); err != nil {
			return nil, err
		}
		if ask.Status != "deactivated" || a.status != "pending" && a.status != "valid" {
			return nil, malformed("an authorization that is %s does not become %q", a.status, ask.Status)
		}
		a.status = "deactivated"
	}
	return object(http.StatusOK, a.document()), nil
}

func (f *Fake) ownAuthz(s *signed, id string) (*fakeAuthz, error) {
	a := f.authzs[id]
	if a == nil {
		return nil, notFound("authorization " + id)
	}
	if a.account != s.account {
		return nil, unauthorized("another account's authorization")
	}
	if a.status == "pending" && f.config.Now().After(a.expires) {
		a.status = "expired"
	}
	return a, nil
}

func (a *fakeAuthz) document() map[string]any {
	return map[string]any{"status": a.status, "expires": a.expires.UTC().Format(time.RFC3339), "identifier": identifierOf(a.name),
		"challenges": []any{a.challenge()}}
}

func (a *fakeAuthz) challenge() map[string]any {
	wire := map[string]any{"type": "http-01", "url": fakeHost + "/challenge/" + a.id, "token": a.token, "status": "pending"}
	switch {
	case a.status == "valid":
		wire["status"] = "valid"
	case a.problem != nil:
		wire["status"], wire["error"] = "invalid", a.problem.document()
	}
	return wire
}

// challenge is RFC 8555 §7.5.1: "The client indicates to the server that it is ready for the challenge validation by sending an
// empty JSON body ("{}")". It alone locks for itself, since Validate runs in between.
func (f *Fake) challenge(s *signed, id string) (*http.Response, error) {
	a, token, err := f.openChallenge(s, id)
	if err != nil {
		return nil, err
	}
	var failure error
	if token != "" && f.config.Validate != nil {
		failure = f.config.Validate(a.name, token, token+"."+s.account.thumbprint)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if a.status == "pending" {
		f.decide(a, failure)
	}
	resp := object(http.StatusOK, a.challenge())
	resp.Header.Add("Link", `<`+fakeHost+"/authorization/"+a.id+`>;rel="up"`)
	return resp, nil
}

// openChallenge returns the token if there is something to validate.
func (f *Fake) openChallenge(s *signed, id string) (*fakeAuthz, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, err := f.ownAuthz(s, id)
	if err != nil {
		return nil, "", err
	}
	if len(s.payload) == 0 || a.status != "pending" {
		return a, "", nil
	}
	var ask struct{}
	return a, a.token, s.into(&ask)
}

func (f *Fake) decide(a *fakeAuthz, failure error) {
	if failure == nil {
		a.status = "valid"
		return
	}
	problem, ok := failure.(*Problem)
	if !ok {
		problem = &Problem{Type: "connection", Detail: failure.Error()}
	}
	a.status, a.problem = "invalid", problem
	f.counts.FailedValidations[a.name] = append(f.counts.FailedValidations[a.name], f.config.Now())
}

// finalize issues, RFC 8555 §7.4.
func (f *Fake) finalize(s *signed, id string) (*http.Response, error) {
	o, err := f.ownOrder(s, id)
	if err != nil {
		return nil, err
	}
	if status := f.status(o); status != "ready" {
		return nil, &Problem{Status: http.StatusForbidden, Type: "orderNotReady", Detail: "the order is " + status}
	}
	var ask struct {
		CSR string `json:"csr"`
	}
	if err := s.into(&ask); err != nil {
		return nil, err
	}
	csr, err := checkCSR(ask.CSR, o)
	if err != nil {
		return nil, &Problem{Type: "badCSR", Detail: err.Error()}
	}
	f.issue(o, csr.PublicKey)
	return f.orderResponse(http.StatusOK, o), nil
}

// checkCSR is "The CSR MUST indicate the exact same set of requested identifiers as the initial newOrder request", RFC 8555 §7.4.
func checkCSR(text string, o *fakeOrder) (*x509.CertificateRequest, error) {
	der, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, err
	}
	names := slices.Clone(csr.DNSNames)
	for _, ip := range csr.IPAddresses {
		names = append(names, ip.String())
	}
	slices.Sort(names)
	if !slices.Equal(names, o.names) {
		return nil, fmt.Errorf("it is for %s, the order for %s", strings.Join(names, ", "), strings.Join(o.names, ", "))
	}
	if keyID(csr.PublicKey) == keyID(o.account.key) {
		return nil, fmt.Errorf("its key is the account's")
	}
	if key, ok := csr.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < 2048 {
		return nil, fmt.Errorf("its key is too short")
	}
	return csr, nil
}

// publicKey is a crypto.Signer that signs nothing: a certificate is made for the key in a request.
type publicKey struct{ key crypto.PublicKey }

func (p publicKey) Public() crypto.PublicKey { return p.key }
func (p publicKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	panic("the private key is the client's")
}

func (f *Fake) issue(o *fakeOrder, key crypto.PublicKey) {
	now := f.config.Now()
	leaf := fakeRoot().IssueFor(publicKey{key}, now.Add(-f.config.Backdate), f.config.Life, o.names...).Chain[0]
	o.cert = &fakeCert{account: o.account, leaf: leaf}
	f.certs[o.id], f.byCertID[CertID(leaf)] = o.cert, o.cert
	serial := Serial(leaf)
	f.counts.Orders[o.issue].Serial = serial
	f.counts.Certificates = append(f.counts.Certificates, FakeIssue{Names: o.names, At: now, Serial: serial, Replaces: o.replaces})
}

// Serial is a certificate's as FakeIssue has it.
func Serial(leaf *x509.Certificate) string { return leaf.SerialNumber.Text(16) }

// CertID is a certificate's "unique identifier" of RFC 9773 §4.1.
func CertID(leaf *x509.Certificate) string {
	serial := leaf.SerialNumber.Bytes()
	if serial[0] >= 0x80 {
		serial = append([]byte{0}, serial...) // DER's sign
	}
	return base64.RawURLEncoding.EncodeToString(leaf.AuthorityKeyId) + "." + base64.RawURLEncoding.EncodeToString(serial)
}

// certificate is RFC 8555 §7.4.2.
func (f *Fake) certificate(s *signed, id string) (*http.Response, error) {
	c := f.certs[id]
	switch {
	case c == nil:
		return nil, notFound("certificate " + id)
	case c.account != s.account:
		return nil, unauthorized("another account's certificate")
	}
	if err := s.asGet(); err != nil {
		return nil, err
	}
	chain := append(cert.EncodeChain([]*x509.Certificate{c.leaf}), fakeChain()...)
	return response(http.StatusOK, "application/pem-certificate-chain", chain), nil
}

// revokeCert is RFC 8555 §7.6.
func (f *Fake) revokeCert(s *signed) (*http.Response, error) {
	var ask struct {
		Certificate string `json:"certificate"`
		Reason      int    `json:"reason"`
	}
	if err := s.into(&ask); err != nil {
		return nil, err
	}
	der, err := base64.RawURLEncoding.DecodeString(ask.Certificate)
	if err != nil {
		return nil, malformed("the certificate cannot be read: %v", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, malformed("the certificate cannot be read: %v", err)
	}
	c := f.byCertID[CertID(leaf)]
	switch {
	case c == nil || !c.leaf.Equal(leaf):
		return nil, notFound("certificate " + CertID(leaf))
	case s.account != nil && s.account != c.account, s.account == nil && keyID(s.key) != keyID(leaf.PublicKey):
		return nil, unauthorized("another one's certificate")
	case c.revoked:
		return nil, &Problem{Type: "alreadyRevoked", Detail: "it is revoked"}
	case !slices.Contains([]int{0, 1, 3, 4, 5}, ask.Reason):
		return nil, &Problem{Type: "badRevocationReason", Detail: fmt.Sprint("no reason ", ask.Reason)}
	}
	c.revoked = true
	f.counts.Revoked[Serial(leaf)] = ask.Reason
	return response(http.StatusOK, "", nil), nil
}

// renewalInfo is RFC 9773 §4.
func (f *Fake) renewalInfo(certID string) (*http.Response, error) {
	f.mu.Lock()
	c := f.byCertID[certID]
	f.mu.Unlock()
	if c == nil || f.config.Window == nil {
		return nil, notFound("certificate " + certID)
	}
	start, end := f.config.Window(c.leaf)
	resp := object(http.StatusOK, map[string]any{"suggestedWindow": map[string]string{
		"start": start.UTC().Format(time.RFC3339), "end": end.UTC().Format(time.RFC3339)}})
	resp.Header.Set("Retry-After", f.config.RetryAfter)
	return resp, nil
}
