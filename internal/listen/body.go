package listen

import (
	"net/http"
	"time"
)

// withBodyTimeout serves h with a deadline for the reading of each request's body, whether the handler reads it or leaves
// that to net/http. A body that is late gives os.ErrDeadlineExceeded to its reader; other HTTP/2 streams of the connection
// go on. The deadline ends with the body: net/http lifts it before it reads on to notice that the client has gone, so it
// neither cancels a request that takes long to answer nor closes an idle connection.
func withBodyTimeout(h http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeout)); err != nil {
				// Without a deadline the body is not bounded in time, so it is not read.
				w.Header().Set("Connection", "close")
				http.Error(w, "the connection is closing", http.StatusServiceUnavailable)
				return
			}
		}
		h.ServeHTTP(w, r)
	})
}
