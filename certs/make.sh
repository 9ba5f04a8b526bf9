#!/usr/bin/env bash
# Makes a certificate for the webhook with OpenSSL: certs/make.sh HOST [DIRECTORY]
#
# DIRECTORY (by default ./certificates) gets ca.crt, ca.key, tls.crt and tls.key. A CA that is there is used again, so
# that a second run renews the certificate and whoever trusts the CA need not learn of it.
set -euo pipefail

host=${1:?usage: make.sh HOST [DIRECTORY], such as: make.sh pod-reloader.pod-reloader.svc certificates}
directory=${2:-certificates}
days=${DAYS:-397}
command -v openssl >/dev/null || { echo "error: openssl is missing" >&2; exit 1; }

umask 077
mkdir -p "$directory"
cd "$directory"
if [ ! -f ca.crt ] || [ ! -f ca.key ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
        -subj "/CN=pod-reloader webhook CA" \
        -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
        -keyout ca.key -out ca.crt
fi
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=pod-reloader webhook" \
    -keyout tls.key.new -out tls.csr
openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days "$days" -out tls.crt.new -extfile - <<EXTENSIONS
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
subjectAltName=DNS:$host
EXTENSIONS
mv tls.key.new tls.key
mv tls.crt.new tls.crt
rm -f tls.csr
chmod 644 ca.crt tls.crt
openssl x509 -in tls.crt -noout -subject -enddate -ext subjectAltName
