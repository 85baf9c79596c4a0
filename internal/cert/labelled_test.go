package cert

import "testing"

func TestPortOfALabelIsOneOrNone(t *testing.T) {
	for text, want := range map[string]struct {
		port int
		ok   bool
	}{"": {0, true}, " 8443 ": {8443, true}, "65535": {65535, true}, "0": {0, false}, "70000": {0, false}, "-1": {0, false}, "https": {0, false}} {
		if port, ok := VerifyPort(map[string]string{LabelVerify: text}); port != want.port || ok != want.ok {
			t.Errorf("%q is %d, %v, want %d, %v", text, port, ok, want.port, want.ok)
		}
	}
	if port, ok := VerifyPort(nil); port != 0 || !ok {
		t.Errorf("without labels it is %d, %v", port, ok)
	}
}
