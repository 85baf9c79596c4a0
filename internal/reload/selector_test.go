package reload

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

func TestTargetsNameTheirContainers(t *testing.T) {
	b := newBench(t)
	for _, c := range []dockertest.Container{
		{Name: "p-web-1", Project: "p", Service: "web"},
		{Name: "p-web-2", Project: "p", Service: "web", Labels: map[string]string{"tls": "yes"}},
		{Name: "q-web-1", Project: "q", Service: "web", Labels: map[string]string{"tls": "yes"}},
		{Name: "mail", Labels: map[string]string{"tls": "yes"}},
		{Name: "web"}, // somebody's container of the same name as the service
	} {
		b.engine.Add(c)
	}
	f, err := b.finder(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		target cert.Target
		want   []string
	}{
		{auto("web"), []string{"p-web-1", "p-web-2"}},
		{auto("mail"), []string{"mail"}},
		{auto("p-web-2"), []string{"p-web-2"}},
		{cert.Target{Project: "q", Word: "web"}, []string{"q-web-1"}},
		{cert.Target{Label: "tls"}, []string{"p-web-2"}},
		{cert.Target{Label: "tls=yes"}, []string{"p-web-2"}},
		{cert.Target{Label: "tls=no"}, nil},
		{auto("p-web"), nil},
		{cert.Target{Project: "r", Word: "web"}, nil},
	} {
		all, err := f.find(t.Context(), tt.target)
		var got []string
		for _, c := range all {
			got = append(got, c.Name)
		}
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.want != nil) {
			t.Errorf("find(%s) = %v, %v, want %v", tt.target, got, err, tt.want)
		}
	}
}

func TestBeginningOfAnIDIsNoName(t *testing.T) {
	b := newBench(t)
	b.engine.Add(dockertest.Container{Name: "web", ID: "cafe" + strings.Repeat("0", 60)})
	f, err := b.finder(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if all, err := f.find(t.Context(), auto("cafe")); err == nil {
		t.Errorf("find(cafe) = %v, want an error", all)
	}
}

func TestTargetThatMatchesNothingNamesTheServicesThereAre(t *testing.T) {
	b := newBench(t)
	b.engine.Add(dockertest.Container{Name: "p-nginx-1", Project: "p", Service: "nginx"})
	b.engine.Add(dockertest.Container{Name: "p-app-1", Project: "p", Service: "app"})
	v := issue(t, "a.test")
	kept := []cert.Kept{keep("a.test", []cert.Bundle{v}, auto("web"))}
	l := b.Look(t.Context(), kept)
	o := one(t, l, "a.test", "web")
	if o.Class != cert.Unseen || o.Err == nil || !strings.Contains(o.Hint, "app, nginx") || !o.Changed || l.Next.IsZero() {
		t.Errorf("outcome %+v, next %v; want unseen with the services app and nginx, and another look", o, l.Next)
	}
	if o := one(t, b.Look(t.Context(), kept), "a.test", "web"); o.Changed {
		t.Error("the second look called it a change again")
	}
}

func TestOurOwnContainerIsNoTarget(t *testing.T) {
	b := newBench(t)
	id := b.engine.Add(dockertest.Container{Name: "p-sidecert-1", Project: "p", Service: "sidecert", Command: []string{os.Args[0], "run"}})
	b.engine.Add(dockertest.Container{Name: "p-web-1", Project: "p", Service: "web"})
	f, err := b.finder(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.self, err = b.Reloader.engine.Inspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"sidecert", "p-sidecert-1"} {
		all, err := f.find(t.Context(), auto(word))
		if err == nil || !strings.Contains(err.(*cert.Error).Hint, "has the services web:") {
			t.Errorf("find(%s) = %v, %v, want an error that offers web alone", word, all, err)
		}
	}
	web, err := b.Reloader.engine.Inspect(t.Context(), "p-web-1")
	if err != nil {
		t.Fatal(err)
	}
	f.self = web // as it seems with network_mode: service:web
	if _, err := f.find(t.Context(), auto("web")); err != nil {
		t.Errorf("find(web) from within web's network: %v", err)
	}
}

func TestWithoutLookingUpOnlyAnExplicitActionIsDoneBlind(t *testing.T) {
	b := newBench(t)
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s := newSite(t, v1)
	b.engine.Add(dockertest.Container{Name: "localhost"})
	b.engine.Forbid("GET /containers/json", "GET /containers/{id}/json")
	b.onSignal(func() { s.set("", v2) })
	k := keep("a.test", []cert.Bundle{v1, v2}, signal("localhost", "HUP"))
	k.Spec.Verify.Endpoints = []string{"127.0.0.1:" + s.port}
	o := one(t, b.Look(t.Context(), []cert.Kept{k}), "a.test", "localhost")
	wantClass(t, o, cert.Current)
	b.wantDeeds(t, "kill localhost HUP")

	o = one(t, b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}), "a.test", "web")
	if o.Class != cert.Unseen || o.Err == nil || !strings.Contains(o.Hint, "RELOAD=web:HUP") {
		t.Errorf("outcome %+v, want unseen with the way out", o)
	}
}

func TestBlindContainerThatIsStoppedIsLookedAtAgain(t *testing.T) {
	b := newBench(t)
	b.engine.Add(dockertest.Container{Name: "web", Status: "exited"})
	b.engine.Forbid("GET /containers/json", "GET /containers/{id}/json")
	k := keep("a.test", []cert.Bundle{issue(t, "a.test")}, signal("web", "HUP"))
	k.Spec.Verify.Endpoints = []string{"127.0.0.1:1"}
	l := b.Look(t.Context(), []cert.Kept{k})
	if o := one(t, l, "a.test", "web"); o.Class != cert.Unseen || o.Err != nil || o.Action != "" || l.Next.IsZero() {
		t.Errorf("outcome %+v, next %v; want a stopped container that is pending", o, l.Next)
	}
}

func TestPlacesAreWhatCanBeReachedFromHere(t *testing.T) {
	net := func(addr string) docker.Network {
		return docker.Network{Addrs: []netip.Addr{netip.MustParseAddr(addr)}, Gateways: []netip.Addr{netip.MustParseAddr("172.20.0.1")}}
	}
	any443 := []docker.Port{{Container: 8443, Host: 443, HostIP: netip.IPv4Unspecified()}}
	self := docker.Container{ID: "me", Networks: map[string]docker.Network{"front": net("172.20.0.2")}}
	for _, tt := range []struct {
		name string
		self docker.Container
		c    docker.Container
		want []place
	}{
		{"in our network", self, docker.Container{Networks: map[string]docker.Network{"back": net("10.0.0.9"), "front": net("172.20.0.3")}}, []place{{"172.20.0.3:443"}}},
		{"on another port", self, docker.Container{Networks: map[string]docker.Network{"front": net("172.20.0.3")}, Ports: any443}, []place{{"172.20.0.3:8443"}}},
		{"IPv6", self, docker.Container{Networks: map[string]docker.Network{"front": net("fd00::3")}}, []place{{"[fd00::3]:443"}}},
		{"in another network, published", self, docker.Container{Networks: map[string]docker.Network{"back": net("10.0.0.9")}, Ports: any443}, []place{{"172.20.0.1:443"}}},
		{"published on one address of the host", self, docker.Container{Ports: []docker.Port{{Container: 443, Host: 443, HostIP: netip.MustParseAddr("192.0.2.7")}}}, []place{{"192.0.2.7:443"}}},
		{"published on the host's loopback alone", self, docker.Container{Ports: []docker.Port{{Container: 443, Host: 443, HostIP: netip.MustParseAddr("127.0.0.1")}}}, nil},
		{"in another network", self, docker.Container{Networks: map[string]docker.Network{"back": net("10.0.0.9")}}, nil},
		{"in the host's network", self, docker.Container{HostNetwork: true}, []place{{"172.20.0.1:443"}}},
		{"both in the host's network", docker.Container{ID: "me", HostNetwork: true}, docker.Container{HostNetwork: true}, []place{{"127.0.0.1:443"}}},
		{"in our own network namespace", self, docker.Container{NetworkOf: "me"}, []place{{"127.0.0.1:443"}}},
		{"we are no container", docker.Container{}, docker.Container{Networks: map[string]docker.Network{"back": net("10.0.0.9")}}, []place{{"10.0.0.9:443"}}},
	} {
		tt.c.ID = "web"
		if got := places(tt.self, found{Container: tt.c}, 443); !slices.EqualFunc(got, tt.want, func(a, b place) bool { return slices.Equal(a, b) }) {
			t.Errorf("%s: places = %v, want %v", tt.name, got, tt.want)
		}
	}
	if got := places(self, found{Container: docker.Container{Name: "shop-web-1"}, blind: true}, 443); len(got) != 1 || got[0][0] != "shop-web-1:443" {
		t.Errorf("told blind: places = %v, want shop-web-1:443", got)
	}
}

func TestContainerInAnothersNetworkIsDialledThere(t *testing.T) {
	b := newBench(t)
	v := issue(t, "a.test")
	s := newSite(t, v)
	id := b.engine.Add(dockertest.Container{Name: "p-vpn-1", Project: "p", Service: "vpn", Ports: s.ports()})
	b.engine.Add(dockertest.Container{Name: "p-web-1", Project: "p", Service: "web", NetworkMode: "container:" + id, Networks: map[string]string{}})
	wantClass(t, one(t, b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v}, auto("web"))}), "a.test", "p-web-1"), cert.Current)
}

func TestPortThatTheCADoesNotAskIsSaid(t *testing.T) {
	publish := func(ports ...string) map[string][]dockertest.Port {
		all := map[string][]dockertest.Port{}
		for _, p := range ports {
			host, inside, _ := strings.Cut(p, ":")
			all[inside+"/tcp"] = append(all[inside+"/tcp"], dockertest.Port{HostPort: host})
		}
		return all
	}
	for _, tt := range []struct {
		first, second []string
		want          string
	}{
		{[]string{"80:80"}, nil, ""},
		{[]string{"8080:80", "443:443"}, nil, "web publishes its port 80 as 8080"},
		{[]string{"8080:80", "80:80"}, nil, ""},
		{[]string{"80:8080"}, nil, ""},
		{nil, nil, ""},
		{[]string{"8081:80"}, []string{"8082:80"}, "web publishes its port 80 as 8081, web publishes its port 80 as 8082"},
		{[]string{"8081:80"}, []string{"80:80"}, ""},
	} {
		b := newBench(t)
		b.engine.Add(dockertest.Container{Name: "p-web-1", Project: "p", Service: "web", Ports: publish(tt.first...)})
		b.engine.Add(dockertest.Container{Name: "p-web-2", Project: "p", Service: "web", Ports: publish(tt.second...)})
		spec := cert.Spec{Reload: cert.Reload{Targets: []cert.Target{auto("web")}}}
		if got := b.Misplaced(t.Context(), spec); got != tt.want {
			t.Errorf("published %q and %q: Misplaced() = %q, want %q", tt.first, tt.second, got, tt.want)
		}
	}
	if got := New(Config{}).Misplaced(t.Context(), cert.Spec{}); got != "" {
		t.Errorf("Misplaced() without an engine = %q, want none", got)
	}
}

func TestUpstreamsAreWhereWebContainersAnswerHTTP(t *testing.T) {
	b := newBench(t)
	s := newSite(t, issue(t, "a.test")) // accepts connections, which is all that is asked
	c := s.nginx("web")
	c.Ports = map[string][]dockertest.Port{s.port + "/tcp": {{HostPort: "80"}}}
	b.engine.Add(c)
	c.Name, c.Status = "p-web-2", "exited"
	b.engine.Add(c)
	spec := cert.Spec{Reload: cert.Reload{Targets: []cert.Target{auto("web"), auto("nobody")}}}
	if got, want := b.Upstreams(t.Context(), spec), []string{"127.0.0.1:" + s.port}; !slices.Equal(got, want) {
		t.Errorf("Upstreams() = %v, want %v", got, want)
	}
	if got := New(Config{}).Upstreams(t.Context(), spec); got != nil {
		t.Errorf("Upstreams() without an engine = %v, want none", got)
	}
}
