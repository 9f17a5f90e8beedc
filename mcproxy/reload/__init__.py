"""The configuration file, the certificates and the GeoIP database, read again while the server runs."""
