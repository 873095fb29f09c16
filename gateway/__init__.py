"""The requests' face: may this user use this now; fast, and with no right to change intent."""
