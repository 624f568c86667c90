"""The addresses of the project."""

from django.conf import settings
from django.conf.urls.static import static
from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from users import views

urlpatterns = [
    path("", views.profile, name="profile"),
    path("picture/remove/", views.remove_picture, name="remove-picture"),
    path("accounts/signup/", views.SignUp.as_view(), name="signup"),
    path("accounts/login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    *static(settings.MEDIA_URL, document_root=settings.MEDIA_ROOT),  # with DEBUG alone
]
