package rpc

import (
	"net/http"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

func TestTimeoutHeaders(t *testing.T) {
	for _, tt := range []struct {
		contentType, name, value string
		want                     time.Duration
		bad                      bool
	}{
		{"application/json", "", "", 0, false},
		{"application/json", connectTimeoutHeader, "1500", 1500 * time.Millisecond, false},
		{"application/json", connectTimeoutHeader, "0", 1, false},
		{"application/json", connectTimeoutHeader, "9999999999", 9999999999 * time.Millisecond, false},
		{"application/json", connectTimeoutHeader, "99999999999", 0, true},
		{"application/json", connectTimeoutHeader, "-1", 0, true},
		{"application/json", connectTimeoutHeader, "1s", 0, true},
		{"application/grpc", grpcTimeoutHeader, "2S", 2 * time.Second, false},
		{"application/grpc+proto", grpcTimeoutHeader, "250m", 250 * time.Millisecond, false},
		{"application/grpc", grpcTimeoutHeader, "5u", 5 * time.Microsecond, false},
		{"application/grpc", grpcTimeoutHeader, "99999999H", 0, false}, // as good as none
		{"application/grpc", grpcTimeoutHeader, "5", 0, true},
		{"application/grpc", grpcTimeoutHeader, "x", 0, true},
		{"application/json", grpcTimeoutHeader, "x", 0, false}, // not its protocol
	} {
		h := http.Header{"Content-Type": {tt.contentType}}
		if tt.name != "" {
			h.Set(tt.name, tt.value)
		}
		got, err := readTimeout(h)
		if got != tt.want || (err != nil) != tt.bad || err != nil && wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
			t.Errorf("%s %s: %s, %v; want %s", tt.name, tt.value, got, err, tt.want)
		}
		if got > 0 {
			writeTimeout(h, 42*time.Millisecond)
			if again, err := readTimeout(h); err != nil || again != 42*time.Millisecond {
				t.Errorf("%s %s became %s, %v", tt.name, tt.value, again, err)
			}
		}
	}
	h := http.Header{}
	if writeTimeout(h, time.Second); len(h) != 0 {
		t.Errorf("a request without a deadline got %v", h)
	}
}
