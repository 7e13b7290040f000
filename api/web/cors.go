package web

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"lambent"
)

// cors sets the headers of a function URL's CORS configuration, and reports
// whether the request was a pre-flight, which it has answered
// (https://docs.aws.amazon.com/lambda/latest/dg/urls-configuration.html#urls-cors).
func cors(w http.ResponseWriter, r *http.Request, c *lambent.CORS) (answered bool) {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	preflight := r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
	h := w.Header()
	h.Add("Vary", "Origin")
	as := allowed(c, origin)
	if as == "" {
		if preflight {
			w.WriteHeader(http.StatusOK) // without the headers the browser refuses
		}
		return preflight
	}
	h.Set("Access-Control-Allow-Origin", as)
	if c.AllowCredentials {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	if len(c.ExposeHeaders) > 0 {
		h.Set("Access-Control-Expose-Headers", strings.Join(c.ExposeHeaders, ","))
	}
	if !preflight {
		return false
	}
	h.Set("Access-Control-Allow-Methods", strings.Join(c.AllowMethods, ","))
	h.Set("Access-Control-Allow-Headers", strings.Join(c.AllowHeaders, ","))
	if c.MaxAge > 0 {
		h.Set("Access-Control-Max-Age", strconv.Itoa(int(c.MaxAge.Seconds())))
	}
	w.WriteHeader(http.StatusOK)
	return true
}

// allowed is how an origin is told that it is allowed; "": it is not.
func allowed(c *lambent.CORS, origin string) string {
	switch {
	case slices.Contains(c.AllowOrigins, "*"):
		return "*"
	case slices.ContainsFunc(c.AllowOrigins, func(o string) bool { return strings.EqualFold(o, origin) }):
		return origin
	}
	return ""
}
