package wasmatrix

import (
	"net/netip"
	"slices"
	"strings"
)

// Permission is one entry of the grammar of R5, such as "kv:read:users/" or
// "http:domain:*.example.com".
type Permission string

// Access is what a call does, as far as permissions tell it apart.
type Access uint8

// The kinds of access, and what the subject of each is in [Rules.Allow].
const (
	AccessKVRead    Access = iota // a key, or the prefix of a list
	AccessKVWrite                 // a key
	AccessKVDelete                // a key
	AccessHTTP                    // a host in lower case, without port or final dot
	AccessPublish                 // a topic
	AccessSubscribe               // a topic, which may have wildcards
	accesses        = iota
)

var accessNames = [accesses]string{"kv:read", "kv:write", "kv:delete", "http:request", "msg:publish", "msg:subscribe"}

// String returns the permission that allows the access to everything.
func (a Access) String() string { return accessNames[a] }

// permissionForms maps each type to its operations, and what each takes.
var permissionForms = map[ProviderType]map[string]permissionForm{
	ProviderKV: {
		"kv:read":   {AccessKVRead, optional, readPrefix},
		"kv:write":  {AccessKVWrite, optional, readPrefix},
		"kv:delete": {AccessKVDelete, optional, readPrefix},
	},
	ProviderHTTP: {
		"http:request": {AccessHTTP, never, nil},
		"http:domain":  {AccessHTTP, always, readDomain},
	},
	ProviderMessaging: {
		"msg:publish":   {AccessPublish, optional, readPattern},
		"msg:subscribe": {AccessSubscribe, optional, readPattern},
	},
}

type permissionForm struct {
	access   Access
	argument argument
	// read gives an argument back in its one form, or says why it is none.
	read func(string) (arg, why string)
}

type argument uint8

const (
	never argument = iota
	optional
	always
)

const maxPermissionLen = 256

// ParsePermission checks s against the permissions of a provider type. An
// empty string is E1; anything else that does not fit is E6. Domains are given
// back in lower case, and addresses as [netip.Addr.String] writes them, since that
// is how hosts are asked for.
func ParsePermission(typ ProviderType, s string) (Permission, error) {
	p, _, _, err := parsePermission(typ, s)
	return p, err
}

func parsePermission(typ ProviderType, s string) (Permission, permissionForm, string, error) {
	forms, ok := permissionForms[typ]
	if !ok {
		return "", permissionForm{}, "", Errorf(CodeValidation, "unknown provider type %q: kv, http or messaging", typ).With(DetailField, "type")
	}
	if s == "" {
		return "", permissionForm{}, "", Errorf(CodeInvalidRequest, "a permission is empty").With(DetailField, "permissions")
	}
	bad := func(why string) (Permission, permissionForm, string, error) {
		return "", permissionForm{}, "", Errorf(CodeValidation, "permission %q: %s", s, why).With(DetailField, "permissions")
	}
	if len(s) > maxPermissionLen {
		return bad("longer than 256 bytes")
	}
	parts := strings.SplitN(s, ":", 3)
	if len(parts) < 2 {
		return bad("not of the form provider:operation")
	}
	name := parts[0] + ":" + parts[1]
	form, known := forms[name]
	switch {
	case !known:
		return bad("not a permission of provider type " + string(typ))
	case len(parts) == 2 && form.argument == always:
		return bad("needs an argument")
	case len(parts) == 2:
		return Permission(s), form, "", nil
	case form.argument == never:
		return bad("takes no argument")
	case parts[2] == "":
		return bad("its argument is empty")
	}
	arg, why := form.read(parts[2])
	if why != "" {
		return bad(why)
	}
	return Permission(name + ":" + arg), form, arg, nil
}

func readPrefix(s string) (prefix, why string) { return s, "" }

func readDomain(s string) (domain, why string) {
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" {
			return "", "the address has a zone"
		}
		return a.Unmap().String(), ""
	}
	host := strings.TrimPrefix(s, "*.")
	if len(host) > 253 {
		return "", "the host is longer than 253 bytes"
	}
	number := false // whether the last label is one: what ends so is an address, and of no domain
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 {
			return "", "not a host name, an IP address, or *.HOST"
		}
		number = true
		for i := range len(label) {
			// Underscores are not of host names, but of names that are in use.
			c := label[i]
			if !isAlnum(c) && c != '_' && (c != '-' || i == 0 || i == len(label)-1) {
				return "", "not a host name (in ASCII), an IP address, or *.HOST"
			}
			number = number && '0' <= c && c <= '9'
		}
	}
	if number {
		return "", "neither a host name nor an IP address in its usual form"
	}
	return strings.ToLower(s), ""
}

// readPattern holds topics that may have wildcards to the rules of NATS.
func readPattern(s string) (pattern, why string) { return s, checkTopic(s, true) }

// ValidateTopic reports E1 unless s is a topic as NATS has them: tokens with
// dots between, none of them empty, without spaces and control characters. With
// wildcards a token may be "*", for any one, and the last ">", for one or more.
func ValidateTopic(s string, wildcards bool) error {
	if why := checkTopic(s, wildcards); why != "" {
		return Errorf(CodeInvalidRequest, "topic %q: %s", s, why).With(DetailField, "topic")
	}
	return nil
}

const maxTopicLen = 255

func checkTopic(s string, wildcards bool) (why string) {
	if s == "" || len(s) > maxTopicLen {
		return "not of 1 to 255 bytes"
	}
	rest, more := s, true
	for more {
		var token string
		token, rest, more = strings.Cut(rest, ".")
		switch token {
		case "":
			return "a token is empty"
		case "*", ">":
			if !wildcards {
				return "wildcards are for subscriptions"
			}
			if token == ">" && more {
				return "> is the last token or none"
			}
		default:
			for i := range len(token) {
				if c := token[i]; c <= ' ' || c == 0x7f || c == '*' || c == '>' {
					return "a token has a character that is not allowed in it"
				}
			}
		}
	}
	return ""
}

// Rules are the permissions of one assignment, made ready to be asked. They are
// immutable.
type Rules [accesses]rule

// rule is what one access is allowed to.
type rule struct {
	all bool
	to  []string
}

// RulesOf makes rules of permissions that were checked; those that do not parse
// allow nothing.
func RulesOf(typ ProviderType, perms []Permission) *Rules {
	r := new(Rules)
	for _, p := range perms {
		_, form, arg, err := parsePermission(typ, string(p))
		if err != nil {
			continue
		}
		one := &r[form.access]
		if arg == "" {
			one.all = true
		} else {
			one.to = append(one.to, arg)
		}
	}
	// A domain, if any is present, narrows what http:request allows.
	if http := &r[AccessHTTP]; len(http.to) > 0 {
		http.all = false
	}
	return r
}

// Allow reports whether the rules allow an access to a subject. It is called
// for every call of a guest and allocates nothing.
func (r *Rules) Allow(a Access, subject string) bool {
	one := &r[a]
	if one.all {
		return true
	}
	switch a {
	case AccessHTTP:
		return slices.ContainsFunc(one.to, func(domain string) bool { return matchDomain(domain, subject) })
	case AccessPublish, AccessSubscribe:
		return slices.ContainsFunc(one.to, func(pattern string) bool { return coversTopic(pattern, subject) })
	default:
		return slices.ContainsFunc(one.to, func(prefix string) bool { return strings.HasPrefix(subject, prefix) })
	}
}

// matchDomain reports whether a domain rule covers a host. *.HOST covers all
// names below HOST, and not HOST itself.
func matchDomain(domain, host string) bool {
	if below, ok := strings.CutPrefix(domain, "*"); ok {
		return len(host) > len(below) && strings.HasSuffix(host, below)
	}
	return domain == host
}

// coversTopic reports whether every topic that topic stands for is one that
// pattern stands for.
func coversTopic(pattern, topic string) bool {
	for more, moreTopic := true, true; more; {
		if !moreTopic {
			return false
		}
		var want, token string
		want, pattern, more = strings.Cut(pattern, ".")
		token, topic, moreTopic = strings.Cut(topic, ".")
		switch {
		case want == ">":
			return true
		case token == ">":
			return false // stands for several tokens where one is allowed
		case want != "*" && want != token:
			return false
		}
		if !more {
			return !moreTopic
		}
	}
	return false
}
